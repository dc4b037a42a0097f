"""The progress file of a rank: one JSON line a record, appended. Standard library only."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..contract import records


class Progress:
    """Appends records to a file. Never raises and never waits: telling about training must not end it.

    A record that could not be written whole (a full disk) is lost; the next one begins on a line of its own.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()  # checkpoints are told of by a thread of their own
        self._torn = False
        self._complained = False
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            self._descriptor = -1
            self._complain(error)

    def write(self, type_: str, **fields: Any) -> None:
        with self._lock:
            self._append(records.line(type_, **fields))

    def _append(self, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self._descriptor, line) if self._descriptor >= 0 else len(line)
        except OSError as error:
            self._complain(error)
            return
        self._torn = written < len(line)

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
            print(f"progress cannot be written: {error}; training goes on", file=sys.stderr, flush=True)
