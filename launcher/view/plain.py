"""The plain screen: a line for everything that happens, each with its prefix. For pipes, files and `--plain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from launcher.runs.model import RunView
from launcher.view.lines import LogLine, prefix
from launcher.view.text import neutral, write

OURS = "[launcher]"


class PlainScreen:
    """Writes lines; nothing that was written is ever changed."""

    most_behind: int | None = None

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def note(self, text: str) -> None:
        write(self._out, f"{OURS} {neutral(text)}\n")

    def lines(self, lines: Sequence[LogLine]) -> None:
        write(self._out, "".join(f"{prefix(line.rank, line.host)} {line.text}\n" for line in lines))

    def show(self, view: RunView) -> None:  # noqa: ARG002
        self._out.flush()

    def close(self) -> None:
        self._out.flush()
