"""Our `worker` package in a run's folder: what a run was started with is what runs, whatever is installed later."""

from __future__ import annotations

import os
import shutil
from importlib.util import cache_from_source
from pathlib import Path

from launcher.errors import NotFitError
from launcher.stage import tree
from launcher.stage.tree import Entry
from worker.contract.layout import HostFolder


def digest() -> str:
    """The hash of the installed package: its files' names and contents, without caches."""
    root = _installed()
    with tree.telling(root, "be read"):
        return tree.digest(root, _entries(root))


def stage(host_folder: HostFolder) -> str:
    """The folder of the staged package, for `python FOLDER VERB`; copied if it is not there yet. May be called again.

    A copy that is there is hashed again, and replaced if anything in it is not what is installed; caches that Python
    left in it go, too. Raises NotFitError: not readable, not writable, the disk is full.
    """
    root = _installed()
    with tree.telling(root, "be read"):
        entries = _entries(root)
        name = tree.digest(root, entries)
    place = Path(host_folder.code(name))
    if _intact(place, name):
        return str(place)
    with tree.telling(place.parent, "be made"):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Named by what was copied: an edit between hashing and copying gives another name, never a wrong one.
    temporary = tree.temporary_name(place)
    place, new = tree.put(root, entries, temporary, lambda copied: Path(host_folder.code(copied)))
    if new:
        _bring_caches(root, entries, place)
    return str(place if new else _replace(temporary, place))


def _bring_caches(root: Path, entries: list[Entry], place: Path) -> None:
    """Bring along what Python has compiled already: it takes every worker 0.2 s otherwise. Best effort.

    A cache is good for a source of the same size and time, so the copies get the times of what they were copied from.
    """
    for entry in entries:
        if not entry.path.endswith(".py"):
            continue
        cache, goal = (Path(cache_from_source(str(folder / entry.path))) for folder in (root, place))
        try:
            times = (root / entry.path).stat()
            compiled = cache.read_bytes()
            goal.parent.mkdir(mode=0o700, exist_ok=True)
            goal.touch(mode=0o600)
            goal.write_bytes(compiled)
            os.utime(place / entry.path, ns=(times.st_atime_ns, times.st_mtime_ns))
        except OSError:
            continue


def _replace(temporary: Path, place: Path) -> Path:
    """Put the fresh copy in the place of one that may have been changed."""
    if _intact(place, place.name):  # another call was faster
        shutil.rmtree(temporary, ignore_errors=True)
        return place
    aside = tree.temporary_name(place)
    with tree.telling(place, "be replaced"):
        place.rename(aside)
        if not tree.moved(temporary, place):
            shutil.rmtree(temporary, ignore_errors=True)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
    if not _intact(place, place.name):
        raise NotFitError(f"{place} is changed by somebody else at this moment", hint="see who writes to that folder")
    return place


def _intact(place: Path, name: str) -> bool:
    try:
        if place.is_symlink() or tree.digest(place, tree.scan(place, _ours)) != name:
            return False
        for cache in list(place.rglob("__pycache__")):
            shutil.rmtree(cache)  # raises for a link, which Python never makes
        return tree.private(place)
    except (OSError, ValueError):
        return False


def _entries(root: Path) -> list[Entry]:
    """Files and folders of the package. All are plain: nothing in it is executed by name."""
    return [
        Entry(entry.path, "file", size=entry.size) if entry.kind == "program" else entry
        for entry in tree.scan(root, _packaged)
    ]


def _ours(name: str) -> bool:
    return name != "__pycache__"


def _packaged(name: str) -> bool:
    """Leaves out what editors and Python leave in a working copy."""
    return _ours(name) and not name.startswith(".") and not name.endswith((".pyc", "~"))


def _installed() -> Path:
    import worker

    return Path(worker.__file__).parent.absolute()
