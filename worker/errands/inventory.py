"""What staging has left in a workdir, how much it is and when it was last used; and its removal."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Set

from ..contract.trees import name_bytes
from . import trees
from .room import TroubleError, troubling

KINDS = ("code", "sources", "data", "setup")


def listed(workdir: str, tick: trees.Tick) -> List[Dict[str, Any]]:
    """Each with `kind`, `name`, `bytes`, `used` (seconds since 1970) and `busy`: a process runs from it.

    What was begun and not finished, and what was put aside, has a name that begins with a dot.
    """
    commands = _in_use()
    found = []
    for kind in KINDS:
        folder = os.path.join(workdir, kind)
        if not os.path.isdir(folder) or os.path.islink(folder):
            continue
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name.endswith(".index"):
                continue
            try:
                used = os.lstat(path).st_mtime
                size = _size(os.fsencode(path), tick)
            except OSError:
                continue  # it went while we looked
            busy = any(name_bytes(path) in command for command in commands)
            found.append({"kind": kind, "name": name, "bytes": size, "used": used, "busy": busy})
    return found


def remove(workdir: str, kind: str, name: str) -> None:
    """Remove one of those. It disappears by one rename, so that nobody finds half of it. Raises TroubleError."""
    if kind not in KINDS or "/" in name or name in ("", ".", "..") or os.path.islink(os.path.join(workdir, kind)):
        raise TroubleError("order", why=f"{kind}/{name} is not of staging")
    path = os.path.join(workdir, kind, name)
    aside = os.path.join(workdir, kind, f".{os.urandom(6).hex()}.removed.tmp")
    with troubling(path):
        if os.path.lexists(path):
            os.rename(path, aside)
    trees.remove(os.fsencode(trees.index_path(path)))
    trees.remove(os.fsencode(aside))


def _size(path: bytes, tick: trees.Tick) -> int:
    """On the disk, in bytes."""
    total = 512 * os.lstat(path).st_blocks
    if os.path.isdir(path) and not os.path.islink(path):
        for item in os.scandir(path):
            total += _size(item.path, tick)
        tick()
    return total


def _in_use() -> Set[bytes]:
    """What command lines name, and what our processes hold open: agents and errands their code's folder."""
    found = set()
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    found.add(file.read(4096))
                for name in os.listdir(f"/proc/{pid}/fd"):
                    found.add(os.fsencode(os.readlink(f"/proc/{pid}/fd/{name}")))
            except OSError:
                continue
    return found
