"""What a plan and a check need to know of this host.

An order says `workdir`, `python` (empty: python3), `environment` and `gone` (what `activate:` sets and takes away),
`address` (empty: not said), `ports` [low, high], `count`, `offset` (or null), `gpus` (whether they are wanted),
`people` (whether other users are of interest) and `cache` (whether what does not change may be kept in the workdir).
All probes run at once, each with a deadline. One that fails, or does not end, is in `failures` with the reason.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping

from ..contract.machine import gpus, ports
from ..contract.machine.interfaces import is_number
from .look import host, people, places, python
from .together import Probe, collect

# A worker's Python may lie on a cold network disk; nvidia-smi has a deadline of its own.
_DEADLINES = {"python": 30.0, "gpus": gpus.DEADLINE_S + 2.0}
_MOST_PORTS = 1000
# The kernel's own word, and no user's file, name or disk: these always answer.
_AT_ONCE = frozenset({"network", "limits", "environment", "ports"})


def look(order: Mapping[str, Any]) -> Dict[str, Any]:
    """{facts: {probe: its result}, failures: {probe: why there is none}}. Blocks as long as the slowest deadline."""
    named = not is_number(str(order.get("address") or "0.0.0.0"))
    facts, failures = collect(probes(order), _DEADLINES, _AT_ONCE if named else _AT_ONCE | {"names"})
    return {"facts": facts, "failures": failures}


def probes(order: Mapping[str, Any]) -> Dict[str, Probe]:
    """Everything that is looked at, by name."""
    gone = {str(name) for name in order.get("gone") or ()}
    environment = {name: value for name, value in os.environ.items() if name not in gone}
    environment.update((str(k), str(v)) for k, v in dict(order.get("environment") or {}).items())
    low, high = (int(port) for port in order["ports"])
    count = min(int(order["count"]), _MOST_PORTS)
    offset = order.get("offset")
    workdir = str(order["workdir"])
    cache = os.path.join(places.absolute(workdir), "facts") if order.get("cache") else ""
    chosen: Dict[str, Probe] = {
        "host": host.host,
        "network": host.network,
        "names": lambda: host.resolved(str(order.get("address") or "")),
        "limits": host.limits,
        "environment": lambda: host.environment(environment),
        "ports": lambda: list(ports.free(low, high, count, offset=None if offset is None else int(offset))),
        "workdir": lambda: places.workdir(workdir),
        "python": lambda: python.python(str(order.get("python") or "python3"), environment, cache),
    }
    if order.get("people"):
        chosen.update(users=people.users, logout=people.logout)
    if order.get("gpus"):
        chosen["gpus"] = lambda: [one._asdict() for one in gpus.find(environment.get("CUDA_VISIBLE_DEVICES"))]
    return chosen
