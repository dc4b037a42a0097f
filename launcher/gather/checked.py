"""What hosts send, checked before anyone acts on it: shapes, bounds, names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from worker.contract import pulling, wire
from worker.contract.inside import steps

_MOST_IN_FRAME = 1 << 19
_MOST_PATHS = 500


class NonsenseError(Exception):
    """The host says what no honest one would say. It is left, and asked again later."""


@dataclass(frozen=True)
class Remote:
    """A file on a host, as it was when it was listed."""

    path: str
    bytes: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True)
class Segment:
    """From byte `offset` on, what comes under `id` belongs to the file `path`; from 0 on if it is another one now."""

    id: int
    path: str
    inode: int
    offset: int
    why: str


@dataclass(frozen=True)
class End:
    """How a file came to its end: `why` is empty if all is well, else what is wrong with it."""

    index: int
    bytes: int
    sha256: str | None
    inode: int
    mtime_ns: int
    why: str


def segments(message: wire.Message) -> list[Segment]:
    """The segments that a follower's frame begins."""
    found = []
    for number, path, inode, offset, why in entries(message, "segments", 5):
        if not is_count(number) or not is_count(inode) or not is_count(offset) or not isinstance(path, str):
            raise NonsenseError("a segment of no shape that we know")
        if not pulling.is_log(path):
            raise NonsenseError(f"a log where none can be: {path!r:.200}")
        found.append(Segment(number, path, inode, offset, str(why)[:40]))
    return found


def parts(message: wire.Message, raw: bytes) -> list[tuple[int, int, memoryview]]:
    """The parts of a frame: which file, from which byte on, its bytes."""
    entries_ = entries(message, "parts", 3)
    counts_fit = all(is_count(value) for entry in entries_ for value in entry)
    if not counts_fit or sum(entry[2] for entry in entries_) != len(raw):
        raise NonsenseError("parts that do not fit their bytes")
    found = []
    view = memoryview(raw)
    for number, offset, count in entries_:
        found.append((number, offset, view[:count]))
        view = view[count:]
    return found


def ends(message: wire.Message) -> list[End]:
    """The files that end with a frame, in order."""
    found = []
    for index, size, sha256, inode, mtime_ns, why in entries(message, "ends", 6):
        if not is_count(index) or not is_count(size) or not is_count(inode) or not isinstance(mtime_ns, int):
            raise NonsenseError("the end of a file of no shape that we know")
        digest = sha256 if isinstance(sha256, str) else None
        found.append(End(index, size, digest, inode, mtime_ns, "" if why is None else str(why)[:200] or "unreadable"))
    return found


def remote(entry: list[Any]) -> Remote:
    """One line of a listing."""
    path, size, mtime_ns, inode = entry
    if not isinstance(path, str) or not is_count(size) or not isinstance(mtime_ns, int) or not is_count(inode):
        raise NonsenseError("a listed file of no shape that we know")
    return Remote(path, size, mtime_ns, inode)


def held(message: wire.Message, most: int) -> dict[str, int]:
    """The files of a held checkpoint and their sizes."""
    found = entries(message, "files", 2)
    if len(found) > most:
        raise NonsenseError("a checkpoint of more files than any has")
    files: dict[str, int] = {}
    for name, size in found:
        if not isinstance(name, str) or not is_plain_name(name) or not is_count(size):
            raise NonsenseError("a checkpoint with a strange file")
        files[name] = size
    return files


def entries(message: wire.Message, key: str, width: int) -> list[list[Any]]:
    """A list of lists of one width."""
    value = message.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, list) and len(entry) == width for entry in value):
        raise NonsenseError(f"{key} of no shape that we know")
    return value


def in_frames(paths: Iterable[str]) -> Iterator[list[str]]:
    """Paths in groups that fit into a frame each, however long they are."""
    group: list[str] = []
    size = 0
    for path in paths:
        size += frame_bytes(path)
        if group and (size > _MOST_IN_FRAME or len(group) >= _MOST_PATHS):
            yield group
            group, size = [], frame_bytes(path)
        group.append(path)
    if group:
        yield group


def frame_bytes(path: str) -> int:
    """What a path takes in a frame at most, with what stands beside it: JSON writes a strange character as six."""
    return 6 * len(path) + 100


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


def is_plain_name(name: str) -> bool:
    """Whether this is one file name, and not a hidden one."""
    try:
        return len(steps(name)) == 1 and not name.startswith(".")
    except ValueError:
        return False
