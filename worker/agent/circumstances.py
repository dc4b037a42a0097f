"""What a process has from whoever started it, besides its environment: where it differs, an agent that was kept for
another start cannot stand for one that is started now."""

from __future__ import annotations

import os
import re
import resource
import sys
from typing import Any, Dict

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
# A login and a terminal's window have a group of their own each time, and no limits in it.
_SESSION = re.compile(r"/(session|vte-spawn)-[^/]*\.scope")


def circumstances() -> Dict[str, Any]:
    """Of this process, as JSON can say it: what it is, by what a person calls it."""
    return {
        "Python": [sys.executable, sys.version],
        "user and groups": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *sorted(os.getgroups())],
        "limits (ulimit)": [
            [name, *resource.getrlimit(getattr(resource, name))]
            for name in sorted(dir(resource))
            if name.startswith("RLIMIT_")
        ],
        "priority": [os.getpriority(os.PRIO_PROCESS, 0), _read("/proc/self/oom_score_adj")],
        "cores": sorted(os.sched_getaffinity(0)),
        "namespaces": [_link(f"/proc/self/ns/{name}") for name in _NAMESPACES] + [_link("/proc/self/root")],
        "control group": _SESSION.sub("/session.scope", _read("/proc/self/cgroup")),
    }


def unlike(ours: Dict[str, Any], theirs: Any) -> str:
    """What is not the same, or nothing."""
    if not isinstance(theirs, dict) or set(theirs) != set(ours):
        return "what it was started with is not known"
    return ", ".join(name for name, value in ours.items() if theirs[name] != value)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
