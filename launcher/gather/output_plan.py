"""What is to be done about a host's output files: nothing, take over a move, add what has grown, or copy anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.gather.checked import Remote

_GROWING_ENDS = (".log", ".jsonl", ".csv", ".out", ".err")
_GROWING_NAME = ".tfevents."


@dataclass(frozen=True)
class Have:
    """A file that is here: how much of it, and which one it is on the host."""

    bytes: int
    inode: int
    mtime_ns: int


@dataclass(frozen=True)
class Todo:
    """`moves` (old path, file): renamed there, so here too. `grows`: from the byte on that is here. `copies`: whole."""

    moves: tuple[tuple[str, Remote], ...] = ()
    grows: tuple[Remote, ...] = ()
    copies: tuple[Remote, ...] = ()
    waits: tuple[Remote, ...] = ()  # still being written, it seems


def only_grows(path: str) -> bool:
    """Whether files of this name are as a rule only ever appended to; that it is so is checked with every append."""
    name = path.rpartition("/")[2]
    return _GROWING_NAME in name or name.endswith(_GROWING_ENDS)


def todo(files: Sequence[Remote], have: Mapping[str, Have], before: Mapping[str, Remote], final: bool) -> Todo:
    """`before` is the last listing: a file that has changed since is left alone for now, unless this is the end."""
    listed = {file.path for file in files}
    gone = {here.inode: path for path, here in have.items() if path not in listed}
    moves: list[tuple[str, Remote]] = []
    grows: list[Remote] = []
    copies: list[Remote] = []
    waits: list[Remote] = []
    for file in files:
        here = have.get(file.path)
        if here is not None and here == Have(file.bytes, file.inode, file.mtime_ns):
            continue
        old = gone.get(file.inode) if here is None else None
        if old is not None and _is_moved(file, have[old]):
            del gone[file.inode]
            moves.append((old, file))
        elif only_grows(file.path) and (here is None or (here.inode == file.inode and here.bytes <= file.bytes)):
            grows.append(file)
        elif final or before.get(file.path) == file:
            copies.append(file)
        else:
            waits.append(file)
    return Todo(tuple(moves), tuple(grows), tuple(copies), tuple(waits))


def _is_moved(file: Remote, old: Have) -> bool:
    if only_grows(file.path):
        return old.bytes <= file.bytes
    return (old.bytes, old.mtime_ns) == (file.bytes, file.mtime_ns)
