"""Runs of this machine's folder that are over: how much they take, since when, and their removal."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError, RunError
from launcher.runs import alive, listing, processes
from launcher.runs.folder import RunFolder
from launcher.runs.read import read_run
from worker.contract import layout
from worker.contract.states import RUN_ALIVE


@dataclass(frozen=True)
class OldRun:
    """A run's folder.

    `used`: when anything in it was last changed, in seconds since 1970; `alive`: it is not over, or cannot be told;
    `here`: something of it lives on this machine.
    """

    folder: RunFolder
    size: int  # bytes on the disk
    used: float
    alive: bool
    here: bool


def look(runs: Path) -> list[OldRun]:
    """Every run that lies in this folder itself, newest first, but for links and folders that are not ours."""
    marks = processes.marks()
    found = []
    for listed in listing.all_runs([runs]):
        path = listed.folder.path
        try:
            about = path.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            size, used, mounts = _walk(path)
        except OSError:
            continue
        here = _lives_here(listed.folder, marks)
        found.append(OldRun(listed.folder, size, used, mounts or here or lives(listed.folder, marks), here))
    return found


def lives(folder: RunFolder, marks: Collection[str]) -> bool:
    """Whether the run is not over by its files, or anything of it is alive on this machine."""
    try:
        return read_run(folder).state in RUN_ALIVE or _lives_here(folder, marks)
    except (LauncherError, OSError):
        return True


def _lives_here(folder: RunFolder, marks: Collection[str]) -> bool:
    return alive.anything(folder) or any(layout.mark(root) in marks for root in _roots(folder))


def remove(run: OldRun) -> None:
    """Remove it, unless it has come alive or was changed. Raises RunError.

    Meanwhile we hold the names that a coordinator and agents of it would need. It goes by one rename.
    """
    path = run.folder.path
    aside = path.with_name(f".{os.urandom(8).hex()}.removed.tmp")
    if lives(run.folder, processes.marks()):
        raise RunError(f"{run.folder.name} is alive by now, and stays")
    try:
        with _held(run.folder):
            if path.is_symlink() or _walk(path)[1] > run.used:
                raise RunError(f"{run.folder.name} has changed by now, and stays")
            path.rename(aside)
        for rest in path.parent.glob(".????????????????.removed.tmp"):  # an interrupted removal's, too
            if not rest.is_symlink():
                _remove_all(rest)
    except OSError as error:
        raise RunError(f"{path} cannot be removed: {error.strerror or error}") from error


def _roots(folder: RunFolder) -> list[str]:
    return [folder.host(path.name).root for path in folder.hosts.iterdir()] if folder.hosts.is_dir() else []


@contextlib.contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    names = [layout.coordinator_socket(str(folder.path)), *map(layout.agent_socket, _roots(folder))]
    with contextlib.ExitStack() as stack:
        for name in names:
            holder = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            try:
                holder.bind(name)
            except OSError as error:
                raise RunError(f"{folder.name} is alive by now, and stays") from error
        yield


def _walk(root: Path) -> tuple[int, float, bool]:
    """(Bytes on the disk, the newest change, whether anything else is mounted in it)."""
    about = root.lstat()
    size, newest, mounts = 512 * about.st_blocks, about.st_mtime, False
    waiting = [str(root)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                size += 512 * found.st_blocks
                newest = max(newest, found.st_mtime)
                if found.st_dev != about.st_dev:
                    mounts = True
                elif stat.S_ISDIR(found.st_mode):
                    waiting.append(entry.path)
    return size, newest, mounts


def _remove_all(path: Path) -> None:
    """Raises OSError."""
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    for folder, names, _ in os.walk(path):  # a program may have made folders that cannot be written to
        for inner in (Path(folder, name) for name in names):
            if not inner.is_symlink():
                with contextlib.suppress(OSError):
                    inner.chmod(0o700)
    shutil.rmtree(path)
