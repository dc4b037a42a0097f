"""A line on a terminal that says what is waited for, and goes when it is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from launcher.view.text import neutral, write

_MOST_NAMES = 4
_QUIET_S = 0.3  # what is over sooner needs no words


class Waiting:
    """Writes to a terminal only: in a file or a pipe such a line is noise."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = False
        self._on = out.isatty()
        self._begun = time.monotonic()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def tell(self, what: str, waiting: Sequence[str]) -> None:
        """What is being done, and the hosts that have not answered yet."""
        took = time.monotonic() - self._begun
        if not self._on or took < _QUIET_S:
            return
        names = ", ".join(waiting[:_MOST_NAMES]) + (f" and {len(waiting) - _MOST_NAMES} more" * (len(waiting) > 4))
        write(self._out, f"\r\x1b[K{neutral(f'{what} {names} … {took:.0f} s', 100)}")
        self._out.flush()
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._shown = False
