"""The progress file of a rank: one JSON line a record, appended. Standard library only."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..contract import records
from .words import say

_MOST_WAITING = 1 << 20


class Progress:
    """Appends records to a file. Never raises and never waits: telling about training must not end it.

    What a full disk does not take waits in memory, in order, and is written with a later record; steps are not worth
    it: the next one tells more.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()  # checkpoints are told of by a thread of their own
        self._waiting = bytearray()  # perhaps beginning in the middle of a line
        self._complained = False
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            self._descriptor = -1
            self._complain(error)

    def write(self, type_: str, **fields: Any) -> None:
        with self._lock:
            self._append(records.line(type_, **fields), dear=type_ != records.STEP)

    def _append(self, line: bytes, *, dear: bool) -> None:
        if self._descriptor < 0 or not (self._flush() or dear) or len(self._waiting) + len(line) > _MOST_WAITING:
            return
        self._waiting += line
        if not self._flush() and not dear and len(self._waiting) == len(line):
            self._waiting.clear()

    def _flush(self) -> bool:
        try:
            while self._waiting:
                # A write may be cut short in the middle of a line: the rest goes on from there.
                del self._waiting[: os.write(self._descriptor, self._waiting)]
        except OSError as error:
            self._complain(error)
        return not self._waiting

    @contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """Records how long its body took. What the body puts into the yielded dict goes into the record, too."""
        extra: dict[str, Any] = {}
        start = time.monotonic()
        yield extra
        self.write(records.PHASE, name=name, seconds=round(time.monotonic() - start, 4), **extra)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            say(f"progress cannot be written: {error}; training goes on")
