"""Journals: append-only files of records, one writer each, read by anyone at any time.

A writer can die in the middle of a line, and a file that came from a host can hold anything: readers take whole lines
that parse, and are bounded in what they hold.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launcher.errors import RunError
from launcher.runs.fields import integer
from worker.contract import records
from worker.contract.records import Record

MAX_LINE = 1 << 20
MAX_JOURNAL = 64 << 20
_PIECE = 1 << 18


class Journal:
    """The one writer of a journal. Records are numbered from 1 by `seq`, going on where the file ends.

    `heard` is called with each record once it is written; it must not block.
    """

    def __init__(self, path: Path, heard: Callable[[Record], None] | None = None) -> None:
        self._path = path
        self._heard = heard
        self._seq = max((integer(r, "seq") or 0 for r in stream(path)), default=0)
        self._torn = _ends_in_mid_line(path)
        fresh = not path.exists()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if fresh:
            _fsync_folder(path.parent)

    def append(self, type_: str, **fields: Any) -> Record:
        """Write one record and wait until the disk has it; returns it as a reader will see it.

        Raises RunError when the disk takes nothing more; the journal stays usable, and the number is given again.
        """
        line = records.dumps({"t": round(time.time(), 6), "type": type_, "seq": self._seq + 1, **fields})
        if self._torn:
            line = b"\n" + line
        try:
            self._write(line)
            os.fsync(self._fd)
        except OSError as error:
            self._torn = True
            raise cannot_write(self._path, error) from error
        self._torn = False
        self._seq += 1
        record = records.parse(line)[0][0]
        if self._heard:
            self._heard(record)
        return record

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        # A disk that is nearly full takes a part of the line and says so only by the count.
        while data:
            data = data[os.write(self._fd, data) :]


def read(path: Path) -> list[Record]:
    """The records of the first 64 MiB of a journal; a missing file has none. Lines over 1 MiB are passed over."""
    return list(stream(path, limit=MAX_JOURNAL))


def stream(path: Path, limit: int | None = None) -> Iterator[Record]:
    """Every record of a file, in pieces, so that memory stays bounded whatever the file holds."""
    taken = 0
    reader = RecordBuffer()
    try:
        with open(path, "rb") as file:
            while (limit is None or taken < limit) and (piece := file.read(_PIECE)):
                taken += len(piece)
                yield from reader.feed(piece)
    except FileNotFoundError:
        return


class RecordBuffer:
    """Bytes in, records out; holds at most one unfinished line of 1 MiB."""

    def __init__(self) -> None:
        self._rest = b""
        self._skips = False

    def feed(self, data: bytes) -> list[Record]:
        """The records whose lines `data` completes."""
        if self._skips:
            end = data.find(b"\n") + 1
            if not end:
                return []
            data = data[end:]
            self._skips = False
        buffer = self._rest + data
        found, used = records.parse(buffer)
        self._rest = buffer[used:]
        if len(self._rest) > MAX_LINE:
            self._rest = b""
            self._skips = True
        return found


def cannot_write(path: Path, error: OSError) -> RunError:
    """The error of a file in a run folder that could not be written, with the next step."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"no space left to write {path}", hint=f"free space or quota under {path.parent}, then try again"
        )
    return RunError(f"cannot write {path}: {error.strerror}", hint=f"see who may write in {path.parent}")


def _ends_in_mid_line(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
