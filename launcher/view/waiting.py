"""A line on a terminal that says what is waited for, and goes when it is over."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TextIO

from launcher.view.text import neutral, write

_MOST_NAMES = 4
_QUIET_S = 0.3  # what is over sooner needs no words


class Waiting:
    """Writes to a terminal only: in a file or a pipe such a line is noise. For any thread."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = False
        self._on = out.isatty()
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._echo: list[Any] | None = None  # how the terminal was before somebody was asked

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Interrupted, it finds another thread still asking, which will not end: the terminal must hear and echo again.
        if self._lock.acquire(blocking=error is None):
            try:
                self._clear()
            finally:
                self._lock.release()
        elif self._echo is not None:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._echo)
            write(self._out, "\n")

    def tell(self, what: str, waiting: Sequence[str]) -> None:
        """What is being done, and the hosts that have not answered yet."""
        took = time.monotonic() - self._begun
        # Who is asked for a passphrase must not have the line written over.
        if not self._on or took < _QUIET_S or not self._lock.acquire(blocking=False):
            return
        try:
            more = len(waiting) - _MOST_NAMES
            names = ", ".join(waiting[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
            write(self._out, f"\r\x1b[K{neutral(f'{what} {names} … {took:.0f} s', 100)}")
            self._out.flush()
            self._shown = True
        finally:
            self._lock.release()

    def say(self, text: str) -> None:
        """Something that was done on the way, and is to stay on the screen."""
        with self._lock:
            self._clear()
            write(self._out, neutral(text) + "\n")
            self._out.flush()

    def ask(self, prompt: str) -> str | None:
        """A passphrase, unseen; None if there is nobody to ask."""
        if not sys.stdin.isatty() or not self._on:
            return None
        import getpass
        import termios

        with self._lock:
            self._clear()
            try:
                self._echo = termios.tcgetattr(sys.stdin)
                return getpass.getpass(f"{neutral(prompt)}: ", self._out)
            except (EOFError, OSError, termios.error):
                return None
            finally:
                self._echo = None

    def _clear(self) -> None:
        if self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._shown = False
