"""Trees on a host's disk: an index beside each, by which it is known, at the cost of one look, to be as it was.

The index holds the listing and a stamp of every file: size, times, inode. A file whose stamp has changed is hashed
again. Paths are bytes here, because a host's locale says nothing about the names that travel.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from typing import AbstractSet, Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ..contract.trees import DIR, LINK, PROGRAM, Item, name_bytes, ordered

PIECE = 1 << 20
FICLONE = 0x40049409
Stamp = List[int]
Tick = Callable[[], None]  # called now and then by what may take long


def still() -> None:
    """For whom nobody waits."""


class Index(NamedTuple):
    """A tree's listing, and the stamps of its files as they were when their contents were known."""

    items: List[Item]
    stamps: Dict[str, Stamp]


def index_path(root: str) -> str:
    folder, name = os.path.split(root)
    return os.path.join(folder, f".{name}.index")


def read_index(root: str) -> Optional[Index]:
    """None if there is none, or none that can be used."""
    try:
        with open(index_path(root), encoding="ascii") as file:
            values = json.load(file)
        return Index([Item(*item) for item in values["items"]], dict(values["stamps"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_index(root: str, index: Index) -> None:
    """Whole or not at all. Raises OSError."""
    path = index_path(root)
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "w", encoding="ascii") as file:
            json.dump({"items": index.items, "stamps": index.stamps}, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        remove(os.fsencode(temporary))
        raise


def stamp(about: os.stat_result) -> Stamp:
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]


def check(root: str, index: Index, tick: Tick = still) -> Tuple[List[Item], Dict[str, Stamp]]:
    """(What is not as the listing has it, the stamps of all other files). Reads only files with another stamp."""
    wrong: List[Item] = []
    stamps: Dict[str, Stamp] = {}
    base = os.fsencode(root)
    for item in index.items:
        path = os.path.join(base, name_bytes(item.path))
        try:
            about = os.lstat(path)
            if not _same_kind(item, path, about):
                wrong.append(item)
            elif item.is_file:
                found = stamp(about)
                if found != index.stamps.get(item.path) and hash_of(path, tick) != item.content:
                    wrong.append(item)
                else:
                    stamps[item.path] = found
        except OSError:
            wrong.append(item)
    return wrong, stamps


def _same_kind(item: Item, path: bytes, about: os.stat_result) -> bool:
    if item.kind == DIR:
        return stat.S_ISDIR(about.st_mode)
    if item.kind == LINK:
        return stat.S_ISLNK(about.st_mode) and os.readlink(path) == name_bytes(item.content)
    program = bool(about.st_mode & 0o100)
    return stat.S_ISREG(about.st_mode) and program == (item.kind == PROGRAM) and about.st_size == item.size


def stamps_of(root: str, items: List[Item]) -> Dict[str, Stamp]:
    """Of a tree that has just been made by us. Raises OSError."""
    base = os.fsencode(root)
    return {i.path: stamp(os.lstat(os.path.join(base, name_bytes(i.path)))) for i in items if i.is_file}


def hash_of(path: bytes, tick: Tick = still) -> str:
    """Raises OSError."""
    import hashlib  # with OpenSSL: a tree that is as it was needs no hash

    content = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        while True:
            piece = file.read(PIECE)
            if not piece:
                return content.hexdigest()
            content.update(piece)
            tick()


def make(
    root: str,
    items: List[Item],
    contents: Dict[str, bytes],
    movable: AbstractSet[str] = frozenset(),
    tick: Tick = still,
) -> None:
    """A new tree of these items; the files' contents come from paths by hash, copied, or moved. Raises OSError."""
    base = os.fsencode(root)
    os.mkdir(base, 0o700)
    left: Dict[str, int] = {}
    for item in items:
        if item.is_file:
            left[item.content] = left.get(item.content, 0) + 1
    for item in ordered(items):
        if item.is_file:
            left[item.content] -= 1
        put(base, item, contents, move=item.content in movable and not left.get(item.content, 0), tick=tick)


def copy_tree(source: str, to: str, items: List[Item]) -> None:
    """Copy a tree's items into the new folder `to`. Raises OSError."""
    base = os.fsencode(source)
    make(to, items, {i.content: os.path.join(base, name_bytes(i.path)) for i in items if i.is_file})


def put(base: bytes, item: Item, contents: Dict[str, bytes], *, move: bool, tick: Tick = still) -> None:
    """One item in its place, where nothing is. Raises OSError."""
    path = os.path.join(base, name_bytes(item.path))
    if item.kind == DIR:
        os.mkdir(path, 0o700)
    elif item.kind == LINK:
        os.symlink(name_bytes(item.content), path)
    elif move:
        os.rename(contents[item.content], path)
        if item.kind == PROGRAM:
            os.chmod(path, 0o700)
    else:
        copy_file(contents[item.content], path, 0o700 if item.kind == PROGRAM else 0o600, tick)


def copy_file(source: bytes, goal: bytes, mode: int, tick: Tick = still) -> None:
    """Shares the blocks where the file system can. Raises OSError."""
    with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        out = os.open(goal, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(out, "wb", buffering=0) as copy:
            if size > PIECE and _cloned(file.fileno(), out):
                return
            while True:
                piece = file.read(PIECE)
                if not piece:
                    return
                write_all(copy, piece)
                tick()


def _cloned(source: int, goal: int) -> bool:
    import fcntl

    try:
        fcntl.ioctl(goal, FICLONE, source)
    except OSError:
        return False
    return True


def write_all(file: Any, piece: bytes) -> None:
    """On a disk that is nearly full, a write may take less than it is given before it fails."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def repair(
    root: str,
    wrong: List[Item],
    contents: Dict[str, bytes],
    movable: AbstractSet[str] = frozenset(),
    tick: Tick = still,
) -> None:
    """Give a tree what is not as it should be. What stood there is kept in `<root>.changed/`. Raises OSError."""
    base = os.fsencode(root)
    uses = Counter(item.content for item in wrong)
    for item in ordered(wrong):
        path = os.path.join(base, name_bytes(item.path))
        if item.kind == DIR and os.path.isdir(path) and not os.path.islink(path):
            continue
        if os.path.lexists(path):
            aside = os.path.join(base + b".changed", name_bytes(item.path)) + b"." + os.urandom(3).hex().encode()
            os.makedirs(os.path.dirname(aside), 0o700, exist_ok=True)
            os.rename(path, aside)
        put(base, item, contents, move=item.content in movable and uses[item.content] == 1, tick=tick)


def remove(path: bytes) -> None:
    """A file or a whole folder, if it is there. Never raises."""
    import shutil

    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        pass
