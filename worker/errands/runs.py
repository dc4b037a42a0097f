"""The folders of runs in a workdir, `<workdir>/<run>/<host>`: how much each is, whether it lives; and its removal.

A folder is a run's if its journal says so, or if it holds nothing but a copy of sources that staging has made. Nothing
else in a workdir is ever looked into: it may be anybody's. Links are not followed. Only the folders of this host's own
name are told, since hosts may share a disk, and who lives on another is not seen from here.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, NamedTuple, Set

from ..contract import layout, records
from . import trees
from .inventory import KINDS
from .living import agent_sockets, marks
from .room import TroubleError, troubling

NOT_RUNS = frozenset((*KINDS, "locks", "facts"))
_ASIDE = re.compile(r"\.[0-9a-f]{16}\.removed\.tmp")
_MOST_LINE = 1 << 20


class Walked(NamedTuple):
    """What a look at a whole folder finds."""

    size: int  # on the disk, in bytes
    newest: float  # when something in it was last changed, in seconds since 1970
    mounts: bool  # another file system is mounted in it


def listed(workdir: str, host: str, tick: trees.Tick) -> List[Dict[str, Any]]:
    """Each with `run`, `bytes`, `used`, `busy` (it lives, or cannot be told) and `begun` (an agent was there).

    What an interrupted removal has left has `run` beginning with a dot.
    """
    found = []
    alive = agent_sockets() | marks()
    for run in _names(workdir):
        path = _place(workdir, run, host)
        begun = os.path.lexists(layout.HostFolder(path).journal)
        try:
            if not (_is_leftover(workdir, run) or _is_runs(path, run, host)):
                continue
            walked = walk(os.fsencode(path), tick)
        except OSError:
            continue  # it went while we looked, or is not ours to see
        busy = walked.mounts or _mark(path) in alive
        found.append({"run": run, "bytes": walked.size, "used": walked.newest, "busy": busy, "begun": begun})
    return found


def remove(workdir: str, run: str, host: str, used: float, tick: trees.Tick = trees.still) -> None:
    """Remove one of those, if it still does not live and nothing of it has changed since. Raises TroubleError.

    Meanwhile we hold the name that an agent of it would need. The folder goes by one rename.
    """
    path = _place(workdir, run, host)
    if "/" in run + host or not (_is_leftover(workdir, run) or _is_runs(path, run, host)):
        raise TroubleError("order", why=f"{run}/{host} is no run's folder")
    with _held(path):
        walked = walk(os.fsencode(path), tick)
        if walked.mounts or walked.newest > used:
            raise TroubleError("busy", path=path)
        aside = os.path.join(workdir, f".{os.urandom(8).hex()}.removed.tmp")
        with troubling(path):
            os.rename(path, aside)
    if not _is_leftover(workdir, run):
        with suppress(OSError):  # another host's folder is there too
            os.rmdir(os.path.dirname(path))
    _remove_all(aside)


def walk(path: bytes, tick: trees.Tick) -> Walked:
    """Raises OSError if the folder itself cannot be looked at."""
    about = os.lstat(path)
    size, newest, mounts = 512 * about.st_blocks, about.st_mtime, False
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        tick()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            if folder == path:
                raise
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            size += 512 * found.st_blocks
            newest = max(newest, found.st_mtime)
            if found.st_dev != about.st_dev:
                mounts = True
            elif stat.S_ISDIR(found.st_mode):
                waiting.append(entry.path)
    return Walked(size, newest, mounts)


def anyone() -> bool:
    """Whether any run of this user lives here."""
    return bool(agent_sockets() or marks())


def now() -> float:
    """By the clock of this host, to which all times here belong."""
    return time.time()


def _names(workdir: str) -> List[str]:
    try:
        return sorted(name for name in os.listdir(workdir) if name not in NOT_RUNS)
    except FileNotFoundError:
        return []


def _place(workdir: str, run: str, host: str) -> str:
    return os.path.join(workdir, run) if _is_leftover(workdir, run) else os.path.join(workdir, run, host)


def _is_leftover(workdir: str, run: str) -> bool:
    return bool(_ASIDE.fullmatch(run)) and _is_own_folder(os.path.join(workdir, run))


def _is_runs(path: str, run: str, host: str) -> bool:
    if run in NOT_RUNS or run.startswith(".") or host in ("", ".", "..") or "/" in host:
        return False
    if not _is_own_folder(os.path.dirname(path)) or not _is_own_folder(path):
        return False
    journal = layout.HostFolder(path).journal
    return _told_by(journal, run, host) if os.path.lexists(journal) else _is_only_staged(path)


def _told_by(journal: str, run: str, host: str) -> bool:
    try:
        descriptor = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            record = json.loads(file.readline(_MOST_LINE))
    except (OSError, ValueError, RecursionError):
        return False
    said = record if isinstance(record, dict) else {}
    return bool(said.get("type") == records.AGENT_STARTED and said.get("run") == run and said.get("host") == host)


def _is_only_staged(path: str) -> bool:
    """Whether the run ended before its agent began: there is a copy of sources, its index beside it, and no more."""
    sources = os.path.join(path, "sources")
    if os.listdir(path) != ["sources"] or not _is_own_folder(sources):
        return False
    names = os.listdir(sources)
    return any(name.startswith(".") and name.endswith(".index") and name[1 : -len(".index")] in names for name in names)


def _is_own_folder(path: str) -> bool:
    try:
        about = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()


def _mark(path: str) -> str:
    return layout.mark(path)


@contextmanager
def _held(path: str) -> Iterator[None]:
    """Hold the name of the folder's agent: whoever binds it is the one. Raises TroubleError if somebody lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as name:
        try:
            name.bind(layout.agent_socket(path))
        except OSError as error:
            raise TroubleError("busy", path=path) from error
        alive: Set[str] = marks()
        if _mark(path) in alive:
            raise TroubleError("busy", path=path)
        yield


def _remove_all(path: str) -> None:
    trees.remove(os.fsencode(path))
    if not os.path.lexists(path):
        return
    for folder, names, _ in os.walk(os.fsencode(path)):  # a program may have made folders that cannot be written to
        for inner in (os.path.join(folder, name) for name in names):
            try:
                if not os.path.islink(inner):
                    os.chmod(inner, 0o700)
            except OSError:
                continue
    trees.remove(os.fsencode(path))
    if os.path.lexists(path):
        raise TroubleError("folder", path=path, why="not all of it can be removed")
