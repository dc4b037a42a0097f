"""A host's append-only files at home: byte for byte what they are there, one segment after another.

`name` is always the file that the host has now, from its first byte on. One that shrank or was replaced on the host is
set aside as `name.1` (then `name.2`, …) and `name` begins anew, so whoever reads `name` sees a file that was replaced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from launcher.gather.checked import NonsenseError, Segment
from launcher.gather.disk import Disk, Notes, Tell
from worker.contract import pulling
from worker.contract.inside import text

MOST_FILES = 50_000
MOST_ASIDE = 20
MOST_BYTES = 1 << 40
_NOTES = "logs.jsonl"


class Segments:
    """Which file each id of one connection means, and how far it is here. Raises what a Disk raises, and NonsenseError.

    `most_bytes` bounds what one host may leave here: beyond it the conversation is refused.
    """

    def __init__(self, disk: Disk, tell: Tell = lambda _: None, most_bytes: int = MOST_BYTES) -> None:
        self._disk = disk
        self._tell = tell
        self._notes = Notes(disk, _NOTES)
        self._by_id: dict[int, str] = {}
        self._sizes = {path: disk.inside.size(path) for path in logs_here(disk)}
        self._left = most_bytes - sum(self._sizes.values())

    def known(self) -> Iterator[tuple[str, int, int | None, str]]:
        """What is here of each file: path, bytes, the inode it has on the host, the fingerprint of its last bytes."""
        for path, size in sorted(self._sizes.items()):
            inode = self._notes.of.get(path, {}).get("inode")
            yield path, size, inode if isinstance(inode, int) else None, self._disk.tail(path, size)

    def begin(self, segments: list[Segment]) -> None:
        """The host goes on with these files, or begins them anew."""
        for segment in segments:
            self._begin(segment)
        fresh = {s.path: {"inode": s.inode} for s in segments if self._notes.of.get(s.path) != {"inode": s.inode}}
        if fresh:
            self._notes.put(fresh)
        for segment in segments:
            # Only now: a file that is here before its note would be taken for the host's old one after a crash.
            if segment.path not in self._sizes:
                os.close(self._disk.open(segment.path, os.O_EXCL))
                self._sizes[segment.path] = 0

    def add(self, number: int, offset: int, data: memoryview) -> None:
        """The next bytes of a file."""
        path = self._by_id.get(number)
        if path is None or offset != self._sizes[path]:
            raise NonsenseError("bytes of a log that do not follow what is here")
        if len(data) > self._left:
            raise NonsenseError("more logs than one host may leave here")
        self._disk.append(path, offset, data)
        self._sizes[path] = offset + len(data)
        self._left -= len(data)

    def sizes(self) -> dict[str, int]:
        """How many bytes of each file are here."""
        return dict(self._sizes)

    def set_aside(self, path: str) -> None:
        """Make room for a file that begins anew."""
        for number in range(1, MOST_ASIDE + 1):
            aside = f"{path}.{number}"
            if not _exists(self._disk, aside):
                self._disk.inside.rename(path, aside)
                self._tell(f"{path} was begun anew there; what it was is kept as {aside}")
                break
        else:
            self._disk.inside.remove(path)
            self._left += self._sizes[path]
        del self._sizes[path]

    def _begin(self, segment: Segment) -> None:
        here = self._sizes.get(segment.path, 0)
        if segment.offset not in (0, here):
            raise NonsenseError("a log that goes on where it has not come to")
        if segment.path not in self._sizes and len(self._sizes) >= MOST_FILES:
            raise NonsenseError("more logs than a run can have")
        if here and not segment.offset:
            self.set_aside(segment.path)
        self._by_id[segment.id] = segment.path


def logs_here(disk: Disk) -> Iterator[str]:
    """The paths of append-only files in a mirror."""
    for name in disk.inside.names():
        if pulling.is_log(text(name)):
            yield text(name)
        elif pulling.is_log(f"{text(name)}/rank0.log"):
            yield from (
                p for p in (f"{text(name)}/{text(n)}" for n in disk.inside.names(text(name))) if pulling.is_log(p)
            )


def _exists(disk: Disk, path: str) -> bool:
    try:
        disk.inside.stat(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return False
    return True
