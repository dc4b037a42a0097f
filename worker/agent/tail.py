"""Reads a rank's progress file as it grows. Whoever writes it may write anything, and may make it anything."""

from __future__ import annotations

import os
import stat
from typing import List, Optional

from ..contract import records
from ..contract.records import Record

PIECE = 1 << 16
MOST_AFTER_EXIT = 1 << 25


class Tail:
    """The records of one progress file, in bounded pieces. Never blocks on a pipe, follows no link, raises nothing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Optional[int] = None
        self._offset = 0
        self._skipping = False  # the rest of a line that is longer than any of ours
        self._left_after_exit = MOST_AFTER_EXIT
        self.drained = False  # the last `take` came to the end of the file

    def take(self, exited: bool = False) -> List[Record]:
        """The next whole lines' records; of step records that follow each other only the newest."""
        data = self._read()
        self.drained = len(data) < PIECE
        if exited:
            self._left_after_exit -= len(data)
            self.drained = self.drained or self._left_after_exit <= 0
        if self._skipping:
            end = data.find(b"\n") + 1
            if not end:
                self._offset += len(data)
                return []
            self._offset += end
            data = data[end:]
            self._skipping = False
        found, length = records.parse(data)
        if not length and len(data) == PIECE:
            self._skipping = True
            length = len(data)
        self._offset += length
        return _thin(found)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self) -> bytes:
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                if not stat.S_ISREG(os.fstat(self._file).st_mode):
                    self.close()
                    return b""
            return os.pread(self._file, PIECE, self._offset)
        except OSError:
            return b""


def _thin(found: List[Record]) -> List[Record]:
    kept: List[Record] = []
    for record in found:
        if kept and record["type"] == records.STEP and kept[-1]["type"] == records.STEP:
            kept[-1] = record
        else:
            kept.append(record)
    return kept
