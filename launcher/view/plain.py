"""The plain screen: a line for everything that happens, each with its prefix. For pipes, files and `--plain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from launcher.runs.model import RunView
from launcher.view.lines import LogLine, prefix
from launcher.view.text import neutral, write

OURS = "[launcher]"
_SGR = (36, 35, 32, 33, 34, 91, 96, 95)  # the same colours as the live screen's


class PlainScreen:
    """Writes lines; nothing that was written is ever changed. `notes` off leaves only what workers print."""

    most_behind: int | None = None

    def __init__(self, out: TextIO, *, notes: bool = True, colour: bool = False) -> None:
        self._out = out
        self._notes = notes
        self._colour = colour

    def note(self, text: str) -> None:
        if self._notes:
            write(self._out, f"{OURS} {neutral(text)}\n")

    def lines(self, lines: Sequence[LogLine]) -> None:
        for line in lines:
            write(self._out, f"{self._prefix(line)} {line.text}\n")

    def show(self, view: RunView) -> None:  # noqa: ARG002
        self._out.flush()

    def close(self) -> None:
        self._out.flush()

    def _prefix(self, line: LogLine) -> str:
        if not self._colour:
            return prefix(line)
        return f"\x1b[{_SGR[line.rank % len(_SGR)]}m{prefix(line)}\x1b[0m"
