"""The user's folder in a run's folder: a program never sees an edit that was made after `up`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from launcher.errors import UsageError
from launcher.spec.model import SyncSpec
from launcher.stage import tree
from launcher.stage.select import selected, too_big
from launcher.stage.tree import Entry
from worker.contract.layout import HostFolder


def stage(sync: SyncSpec, host_folder: HostFolder, *, runs: Path | None = None) -> str:
    """The folder of the staged copy, named by its content. May be called again: the same content gives the same folder.

    Left out: what .gitignore files or `exclude` name, version control, keys and secrets, caches, virtual environments
    and the `runs` folder (by default the one that `host_folder` lies in). Links inside the folder stay links; one that
    leads out is refused. In a copy that is there already, files that a program has added stay; what it has changed is
    put back, and its version is kept in `sources/<hash>.changed/`.
    Raises UsageError: too big, a link leads out. Raises NotFitError: not readable, not writable, the disk is full.
    """
    root = Path(sync.source)
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder", hint="set `sync: {source: ...}` to the folder of your program")
    runs = runs or Path(host_folder.root).absolute().parents[2]
    entries = selected(root, sync.exclude, runs)
    if sum(entry.size for entry in entries) > sync.max_bytes:
        raise too_big(root, entries, sync)
    parent = Path(host_folder.sources("x")).parent
    with tree.telling(parent, "be made"):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = tree.temporary_name(parent / "copy")
    place, new = tree.put(root, entries, temporary, lambda copied: Path(host_folder.sources(copied)))
    if not new:
        try:
            _restore(temporary, entries, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return str(place)


def _restore(fresh: Path, entries: list[Entry], place: Path) -> None:
    """Give a staged folder its own contents back, entry by entry."""
    kept = place.with_name(place.name + ".changed")
    with tree.telling(place, "be restored"):
        for entry in sorted(entries, key=lambda e: os.fsencode(e.path)):
            there = place / entry.path
            if _same(fresh, place, entry):
                continue
            if os.path.lexists(there):
                aside = kept / f"{entry.path}.{os.urandom(3).hex()}"
                aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                there.rename(aside)
            if entry.kind == "dir":
                there.mkdir(mode=0o700)
            else:
                (fresh / entry.path).rename(there)


def _same(fresh: Path, place: Path, entry: Entry) -> bool:
    try:
        found = tree.entry_at(place / entry.path, entry.path)
        if found is None or (found.kind, found.target, found.size) != (entry.kind, entry.target, entry.size):
            return False
        return entry.kind in ("dir", "link") or tree.digest(place, [entry]) == tree.digest(fresh, [entry])
    except OSError:
        return False
