"""How much memory a further process may take: what the machine has to give, and the limits of our control groups."""

from __future__ import annotations

import os
from typing import Iterator, List, NamedTuple, Optional, Tuple, Union

Path = Union[str, "os.PathLike[str]"]

MEMINFO, CGROUPS, OWN = "/proc/meminfo", "/sys/fs/cgroup", "/proc/self/cgroup"


class Memory(NamedTuple):
    """In bytes. What can be given back, as files that are held in memory, counts as free."""

    used: int
    most: int

    @property
    def left(self) -> int:
        return self.most - self.used


def available(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS, own: Path = OWN) -> Optional[int]:
    """Bytes, or None if nobody says. Blocks no longer than the kernel does for its own files."""
    found = tightest(meminfo, cgroups, own)
    return max(0, found.left) if found else None


def tightest(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS, own: Path = OWN) -> Optional[Memory]:
    """Of the machine and the control groups of a process (`own`), the one with the least left; None if nobody says."""
    limits = [_limit(group, *files) for group, files in groups(cgroups, own)]
    found = [one for one in [_machine(meminfo), *limits] if one is not None]
    return min(found, key=lambda one: one.left) if found else None


def groups(cgroups: Path = CGROUPS, own: Path = OWN) -> Iterator[Tuple[str, Tuple[str, str]]]:
    """This process's groups of memory and all above them, of either version of control groups, the innermost first:
    folders (which need not be there) and the names of the files for limit and usage."""
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
            steps: List[str] = [step for step in path.split("/") if step]
            for depth in range(len(steps), -1, -1):
                yield os.path.join(cgroups, mount, *steps[:depth]), files


def _machine(meminfo: Path) -> Optional[Memory]:
    found = {}
    try:
        for line in _text(meminfo).splitlines():
            name, _, value = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(value.split()[0]) << 10
        return Memory(found["MemTotal"] - found["MemAvailable"], found["MemTotal"])
    except (OSError, ValueError, IndexError, KeyError):
        return None


def _limit(group: str, limit: str, usage: str) -> Optional[Memory]:
    try:
        most = _text(os.path.join(group, limit)).strip()
        if most == "max":
            return None
        used = int(_text(os.path.join(group, usage)))
        kept = [line.split() for line in _text(os.path.join(group, "memory.stat")).splitlines()]
        cached = sum(int(line[1]) for line in kept if line[0] == "inactive_file")
        return Memory(used - cached, int(most))
    except (OSError, ValueError, IndexError):
        return None


def _text(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
