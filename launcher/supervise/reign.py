"""Whether this coordinator still has the run: the run's own journal says when a later one has come.

The run's socket keeps two coordinators of one machine apart. Where they do not see each other (a run folder on a shared
disk), one that was frozen wakes to find its run in other hands; it must not write down what it believes of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from launcher.runs.fields import integer
from launcher.runs.journal import RecordBuffer
from worker.contract import records

_PIECE = 1 << 20


class SupersededError(Exception):
    """Another coordinator has the run."""


class Reign:
    """Made when the journal says that this coordinator has begun; reads what was added since."""

    def __init__(self, journal: Path, term: int) -> None:
        self._path = journal
        self._term = term
        self._offset = self._size()
        self._buffer = RecordBuffer()

    def check(self) -> None:
        """Raises SupersededError if a coordinator of a higher term has written down that it began."""
        if self._size() <= self._offset:
            return
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                while piece := file.read(_PIECE):
                    self._offset += len(piece)
                    for record in self._buffer.feed(piece):
                        term = integer(record, "term") or 0
                        if record["type"] == records.COORDINATOR_STARTED and term > self._term:
                            raise SupersededError(f"a coordinator of term {term} has begun")
        except OSError:
            return

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size  # noqa: PTH116 - each turn of a loop asks for it
        except OSError:
            return 0
