"""A folder as a list of entries with one digest, and private copies of it that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.errors import LauncherError, NotFitError
from worker.contract import trees

_PIECE = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One thing in a tree: `path` is relative to its root; `target` is where a link points."""

    path: str
    kind: Literal["dir", "file", "program", "link"]  # program: a file that may be executed
    target: str = ""
    size: int = 0


def scan(root: Path, passes: Callable[[str], bool] = lambda _: True) -> list[Entry]:
    """Everything below a folder whose name `passes`. Raises OSError; ValueError for what is neither file, folder nor
    link, or for what others may read or change."""
    found: list[Entry] = []
    waiting = [""]
    while waiting:
        base = waiting.pop()
        with os.scandir(root / base) as listing:
            for item in listing:
                if not passes(item.name):
                    continue
                entry = entry_at(Path(item.path), base + item.name)
                if entry is None:
                    raise ValueError(f"{item.path} is neither a file nor a folder nor a link")
                if entry.kind == "dir":
                    waiting.append(entry.path + "/")
                found.append(entry)
    return found


def entry_at(path: Path, name: str) -> Entry | None:
    """What is at a path, called `name` in its tree; None for a socket, a pipe or a device. Raises OSError."""
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode):
        return Entry(name, "link", str(path.readlink()))
    if stat.S_ISDIR(about.st_mode):
        return Entry(name, "dir")
    if not stat.S_ISREG(about.st_mode):
        return None
    return Entry(name, "program" if about.st_mode & 0o100 else "file", size=about.st_size)


def private(root: Path) -> bool:
    """Whether a folder and all in it belong to this user, and others can neither read nor change it."""
    if not _ours(root.lstat()):
        return False
    return all(_ours((root / e.path).lstat()) for e in scan(root) if e.kind != "link")


def _ours(about: os.stat_result) -> bool:
    return about.st_uid == os.getuid() and not stat.S_IMODE(about.st_mode) & 0o077


def digest(root: Path, entries: Sequence[Entry]) -> str:
    """One hash over names, kinds and contents. Raises OSError."""
    return _combined((entry, _content(root, entry)) for entry in entries)


def copy(root: Path, entries: Sequence[Entry], to: Path) -> str:
    """Copy entries into the new folder `to`; returns the digest of what was read. Folders 0700, files 0600 or 0700.

    Raises LauncherError that names the path: not readable, not writable, the disk is full.
    """
    done: list[tuple[Entry, str]] = []
    with telling(to, "be made"):
        to.mkdir(mode=0o700, parents=True)
    for entry in sorted(entries, key=lambda e: os.fsencode(e.path)):  # a folder comes before what is in it
        if entry.kind == "dir":
            with telling(to / entry.path, "be made"):
                (to / entry.path).mkdir(mode=0o700)
        elif entry.kind == "link":
            with telling(to / entry.path, "be made"):
                (to / entry.path).symlink_to(entry.target)
        done.append((entry, _copy_file(root, entry, to) if _is_file(entry) else _content(root, entry)))
    return _combined(done)


def put(root: Path, entries: Sequence[Entry], temporary: Path, final: Callable[[str], Path]) -> tuple[Path, bool]:
    """Copy entries to `temporary`, then rename it to `final(digest)`. Returns that, and whether it is new: if the
    name was there already, it was left alone and the copy stays under the temporary name."""
    try:
        place = final(copy(root, entries, temporary))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return place, moved(temporary, place)


def moved(temporary: Path, place: Path) -> bool:
    """Rename a folder to a name that is free; False if it is not. Somebody else may have been faster."""
    try:
        temporary.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise told(error, place, "be written") from error
    return True


def temporary_name(place: Path) -> Path:
    """A name beside `place` that no other process or call uses."""
    return place.with_name(f".{place.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


@contextmanager
def telling(path: Path, what: str) -> Iterator[None]:
    """Turns an OSError into a LauncherError: `path` cannot `what`."""
    try:
        yield
    except OSError as error:
        raise told(error, path, what) from error


def told(error: OSError, path: Path, what: str) -> LauncherError:
    """The error for a person: which path, why, and what to do next."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full" if error.errno == errno.ENOSPC else "the disk quota is used up"
        hint = "free some space there (`launcher list` shows old runs), or set `coordinator.runs` to another disk"
    else:
        why = error.strerror or str(error)
        hint = "give yourself access to it, or leave it out with `sync: {exclude: [...]}`"
        if what != "be read":
            hint = "see who owns its folder and whether the disk is mounted read-only"
    return NotFitError(f"{path} cannot {what}: {why}", hint=hint)


def _is_file(entry: Entry) -> bool:
    return entry.kind in ("file", "program")


def _combined(entries: Iterable[tuple[Entry, str]]) -> str:
    return trees.digest(trees.Item(e.kind, e.path, content, e.size) for e, content in entries)


def _content(root: Path, entry: Entry) -> str:
    if entry.kind == "dir":
        return ""
    if entry.kind == "link":
        return entry.target
    content = hashlib.sha256()
    with open(_opened(root / entry.path), "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            content.update(piece)
    return content.hexdigest()


def _copy_file(root: Path, entry: Entry, to: Path) -> str:
    content = hashlib.sha256()
    goal = to / entry.path
    mode = 0o700 if entry.kind == "program" else 0o600
    with telling(root / entry.path, "be read"):
        source = open(_opened(root / entry.path), "rb", buffering=0)  # noqa: SIM115
    with source, telling(goal, "be written"):
        out = os.open(goal, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(out, "wb", buffering=0) as file:
            while piece := _read(source.read, root / entry.path):
                content.update(piece)
                write(file.write, piece)
    return content.hexdigest()


def _read(read: Callable[[int], bytes], path: Path) -> bytes:
    with telling(path, "be read"):
        return read(_PIECE)


def write(to: Callable[[memoryview], int], piece: bytes) -> None:
    """All of a piece: on a disk that is nearly full, a write may take less than it is given before it fails."""
    rest = memoryview(piece)
    while rest:
        rest = rest[to(rest) :]


def _opened(path: Path) -> int:
    """A descriptor for reading. A link or a pipe that took the file's place is neither followed nor waited for."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
