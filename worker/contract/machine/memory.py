"""How much memory a further process may take: what the machine has to give, and the limits of our control groups."""

from __future__ import annotations

import os
from typing import Iterator, Optional, Union

Path = Union[str, "os.PathLike[str]"]


def available(
    meminfo: Path = "/proc/meminfo", cgroups: Path = "/sys/fs/cgroup", own: Path = "/proc/self/cgroup"
) -> Optional[int]:
    """Bytes, or None if nobody says. Blocks no longer than the kernel does for its own files."""
    found = [*_machine(meminfo), *_groups(cgroups, own)]
    return max(0, min(found)) if found else None


def _machine(meminfo: Path) -> Iterator[int]:
    try:
        for line in _text(meminfo).splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        return


def _groups(cgroups: Path, own: Path) -> Iterator[int]:
    """What is left in this process's groups and all above them, of either version of control groups."""
    try:
        lines = _text(own).splitlines()
    except OSError:
        return
    for entry in lines:
        _, controllers, path = [*entry.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        files = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        for mount in ("memory",) if controllers else ("", "unified"):
            steps = [step for step in path.split("/") if step]
            for depth in range(len(steps), -1, -1):
                left = _left(os.path.join(cgroups, mount, *steps[:depth]), *files)
                if left is not None:
                    yield left


def _left(group: str, limit: str, usage: str) -> Optional[int]:
    """The files that the group holds in memory can be given back, so they count as free."""
    try:
        most = _text(os.path.join(group, limit)).strip()
        if most == "max":
            return None
        used = int(_text(os.path.join(group, usage)))
        kept = [line.split() for line in _text(os.path.join(group, "memory.stat")).splitlines()]
        cached = sum(int(line[1]) for line in kept if line[0] == "inactive_file")
        return int(most) - used + cached
    except (OSError, ValueError, IndexError):
        return None


def _text(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
