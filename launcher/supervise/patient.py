"""A journal that outlives a full disk: what cannot be written now is kept and written later, in order.

A little room is set aside for it beforehand: that the disk is full is to be read in the journal while it is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from launcher.errors import RunError
from launcher.runs.journal import Journal

MOST_WAITING = 10_000
_RESERVE = 1 << 16


class PatientJournal:
    """Wraps a journal for a process that must not end because a disk is full. `reserve`: a file that takes some room
    as long as there is room to take; it goes with `close`."""

    def __init__(self, journal: Journal, reserve: Path | None = None) -> None:
        self._journal = journal
        self._reserve = reserve
        self._reserved = False
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._set_aside()

    def append(self, type_: str, **fields: Any) -> None:
        """Write a record, after those that still wait; never raises."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((type_, fields))
        self.retry()

    def retry(self) -> bool:
        """Write what waits as far as the disk takes it; True when nothing waits any more."""
        if self._write():
            self._set_aside()
            return True
        return self._give_room() and self._write()

    def close(self) -> None:
        """Nothing more will come. May be called twice."""
        self._give_room()
        self._reserve = None

    def _write(self) -> bool:
        with contextlib.suppress(RunError):
            while self._waiting:
                type_, fields = self._waiting[0]
                self._journal.append(type_, **fields)
                self._waiting.pop(0)
        return not self._waiting

    def _set_aside(self) -> None:
        if self._reserve is None or self._reserved:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _RESERVE)
                self._reserved = True
            finally:
                os.close(descriptor)

    def _give_room(self) -> bool:
        if self._reserve is None:
            return False
        self._reserved = False
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True
