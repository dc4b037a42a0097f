"""A journal that outlives a full disk: what cannot be written now is kept and written later, in order."""

from __future__ import annotations

import contextlib
from typing import Any

from launcher.errors import RunError
from launcher.runs.journal import Journal

MOST_WAITING = 10_000


class PatientJournal:
    """Wraps a journal for a process that must not end because a disk is full."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[tuple[str, dict[str, Any]]] = []

    def append(self, type_: str, **fields: Any) -> None:
        """Write a record, after those that still wait; never raises."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((type_, fields))
        self.retry()

    def retry(self) -> bool:
        """Write what waits as far as the disk takes it; True when nothing waits any more."""
        with contextlib.suppress(RunError):
            while self._waiting:
                type_, fields = self._waiting[0]
                self._journal.append(type_, **fields)
                self._waiting.pop(0)
        return not self._waiting
