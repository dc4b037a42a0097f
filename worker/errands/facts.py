"""`facts`: what a plan and a check need to know of this host.

The coordinator sends, in any order and as often as it likes:
  clock {}                answered at once by clock {t}: the time of day here
  look {order}            answered by facts {facts, failures}
An order says `workdir`, `python` (empty: python3), `environment` (what `activate:` gave), `address` (empty: not said),
`ports` [low, high], `count`, `offset` (or null) and `gpus` (whether they are wanted).
All probes run at once, each with a deadline. One that fails, or does not end, is in `failures` with the reason.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping

from ..contract.machine import gpus, ports
from .look import host, people, places, python
from .talk import Talk
from .together import Probe, collect

CLOCK = "clock"
LOOK = "look"
# A worker's Python may lie on a cold network disk; nvidia-smi has a deadline of its own.
_DEADLINES = {"python": 30.0, "gpus": gpus.DEADLINE_S + 2.0}
_MOST_PORTS = 1000


def main(argv: List[str]) -> int:  # noqa: ARG001
    """Answer until nobody asks any more."""
    talk = Talk()
    while True:
        frame = talk.receive()
        if frame is None:
            return 0
        message = frame[0]
        if message["type"] == CLOCK:
            talk.send({"type": CLOCK, "t": time.time()})
        elif message["type"] == LOOK:
            talk.send({"type": "facts", **look(message)})
        else:
            talk.send({"type": "refused", "what": str(message["type"])[:100]})


def look(order: Mapping[str, Any]) -> Dict[str, Any]:
    """{facts: {probe: its result}, failures: {probe: why there is none}}. Blocks as long as the slowest deadline."""
    facts, failures = collect(probes(order), _DEADLINES)
    return {"facts": facts, "failures": failures}


def probes(order: Mapping[str, Any]) -> Dict[str, Probe]:
    """Everything that is looked at, by name."""
    environment = {**os.environ, **{str(k): str(v) for k, v in dict(order.get("environment") or {}).items()}}
    low, high = (int(port) for port in order["ports"])
    count = min(int(order["count"]), _MOST_PORTS)
    offset = order.get("offset")
    chosen = {
        "host": host.host,
        "network": host.network,
        "names": lambda: host.resolved(str(order.get("address") or "")),
        "limits": host.limits,
        "environment": lambda: host.environment(environment),
        "ports": lambda: list(ports.free(low, high, count, offset=None if offset is None else int(offset))),
        "workdir": lambda: places.workdir(str(order["workdir"])),
        "python": lambda: python.python(str(order.get("python") or "python3"), environment),
        "users": people.users,
        "logout": people.logout,
    }  # type: Dict[str, Probe]
    if order.get("gpus"):
        chosen["gpus"] = lambda: [one._asdict() for one in gpus.find(environment.get("CUDA_VISIBLE_DEVICES"))]
    return chosen
