"""How many cores this process may use: its CPU affinity, and the CPU quota of its control groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, Optional


def usable(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Whole cores, at least 1. A quota of 1.5 cores counts as 1: threads over a quota are stopped in mid-step."""
    cores = float(len(os.sched_getaffinity(0)))
    for quota in _quotas(cgroups, own):
        cores = min(cores, quota)
    return max(1, int(cores))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """The quotas, in cores, of this process's groups and all above them, of either version of control groups."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for entry in lines:
        _, controllers, path = [*entry.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (cgroups / controllers, cgroups / "cpu") if controllers else (cgroups, cgroups / "unified"):
            group = mount / path.lstrip("/")
            for folder in (group, *group.parents):
                quota = _quota(folder)
                if quota is not None:
                    yield quota
                if folder == mount:
                    break


def _quota(group: Path) -> Optional[float]:
    try:
        limit, period = (group / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        micros = int((group / "cpu.cfs_quota_us").read_text())
        return micros / int((group / "cpu.cfs_period_us").read_text()) if micros > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
