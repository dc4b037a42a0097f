"""Where the bytes of output files go as they arrive: to the end of a file, or to a copy that takes its place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from launcher.gather.checked import End
from launcher.gather.disk import COMING, FULL, Disk
from worker.contract.pulling import CHANGED

Report = Callable[[str, int], None]
_PIECE = 1 << 20


class Growth:
    """Adds to files. One that turns out to be another file now is written beside, and takes the old one's place."""

    def __init__(self, disk: Disk, paths: Sequence[str], report: Report) -> None:
        self._disk = disk
        self._paths = paths
        self._report = report
        self._fd = -1
        self._beside = False
        self.failed: dict[int, OSError] = {}

    def begin(self, index: int, offset: int) -> None:
        path = self._paths[index]
        try:
            here = self._disk.inside.size(path)
            self._beside = here != offset
            self._fd = self._disk.open(_BESIDE if self._beside else path, os.O_TRUNC if self._beside else 0)
        except OSError as error:
            _unless_full(error)
            self.failed[index] = error

    def data(self, index: int, offset: int, data: memoryview) -> None:  # noqa: ARG002 - a Sink
        if self._fd >= 0:
            self._disk.write(self._fd, data)
            self._report(self._paths[index], len(data))

    def end(self, index: int, end: End) -> None:
        was_open = self._fd >= 0
        self.close()
        # That it has grown meanwhile is no harm: the next look sees it.
        if was_open and self._beside and end.why in ("", CHANGED):
            self._disk.inside.rename(_BESIDE, self._paths[index])

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Copies:
    """Writes each file under a temporary name, checks its hash, and renames it."""

    def __init__(self, disk: Disk, temporary: Sequence[str], paths: Sequence[str], report: Report) -> None:
        self._disk = disk
        self._temporary = temporary
        self._paths = paths
        self._report = report
        self._fd = -1
        self._digest: Any = None
        self.done: dict[int, End] = {}
        self.torn: list[int] = []  # changed under our hands: another look, another copy
        self.failed: dict[int, OSError] = {}

    def begin(self, index: int, offset: int) -> None:
        path = self._temporary[index]
        self._digest = hashlib.sha256()
        if offset:
            self._hash_what_is_here(path, offset)
        self._fd = self._disk.open(path, 0 if offset else os.O_TRUNC)

    def data(self, index: int, offset: int, data: memoryview) -> None:  # noqa: ARG002 - a Sink
        self._digest.update(data)
        self._disk.write(self._fd, data)
        self._report(self._paths[index], len(data))

    def end(self, index: int, end: End) -> None:
        if self._fd < 0:
            return  # it could not be read there: gone, or no plain file any more
        self.close()
        if end.why or end.sha256 != self._digest.hexdigest():
            self._disk.inside.remove(self._temporary[index])
            self.torn.append(index)
            return
        try:
            self._disk.inside.rename(self._temporary[index], self._paths[index])
        except OSError as error:
            _unless_full(error)
            self._disk.inside.remove(self._temporary[index])
            self.failed[index] = error
            return
        self.done[index] = end

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _hash_what_is_here(self, path: str, size: int) -> None:
        descriptor = self._disk.inside.read(path)
        with open(descriptor, "rb") as file:
            while size and (data := file.read(min(_PIECE, size))):
                self._digest.update(data)
                size -= len(data)


_BESIDE = f"{COMING}/beside"


def _unless_full(error: OSError) -> None:
    if error.errno in FULL:
        raise error
