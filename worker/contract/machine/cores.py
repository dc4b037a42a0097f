"""How many cores this process may use: its CPU affinity, and the CPU quota of its control groups."""

from __future__ import annotations

import os
from typing import Iterator, Optional, Union

Path = Union[str, "os.PathLike[str]"]


def usable(cgroups: Path = "/sys/fs/cgroup", own: Path = "/proc/self/cgroup") -> int:
    """Whole cores, at least 1. A quota of 1.5 cores counts as 1: threads over a quota are stopped in mid-step."""
    cores = float(len(os.sched_getaffinity(0)))
    for quota in _quotas(cgroups, own):
        cores = min(cores, quota)
    return max(1, int(cores))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """The quotas, in cores, of this process's groups and all above them, of either version of control groups."""
    try:
        lines = _text(own).splitlines()
    except OSError:
        return
    for entry in lines:
        _, controllers, path = [*entry.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (controllers, "cpu") if controllers else ("", "unified"):
            steps = [step for step in path.split("/") if step]
            for depth in range(len(steps), -1, -1):
                quota = _quota(os.path.join(cgroups, mount, *steps[:depth]))
                if quota is not None:
                    yield quota


def _quota(group: str) -> Optional[float]:
    try:
        limit, period = _text(os.path.join(group, "cpu.max")).split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        micros = int(_text(os.path.join(group, "cpu.cfs_quota_us")))
        return micros / int(_text(os.path.join(group, "cpu.cfs_period_us"))) if micros > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _text(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
