"""Several questions asked at once, each with a deadline."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Container, Dict, Mapping, Tuple

DEADLINE_S = 20.0  # a busy machine is slow, and only a dead disk or server never answers
Probe = Callable[[], Any]


def collect(
    probes: Mapping[str, Probe], deadlines: Mapping[str, float], at_once: Container[str] = ()
) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """({name: result}, {name: why there is none}). One that hangs, on a dead NFS server, is left in its thread.

    Those `at_once`, which cannot hang, get none: threads cost as much as they do.
    """
    facts: Dict[str, Any] = {}
    failures: Dict[str, str] = {}

    def run(name: str, probe: Probe) -> None:
        try:
            facts[name] = probe()
        except Exception as error:
            failures[name] = _why(error)

    begun = time.monotonic()
    threads = {
        name: threading.Thread(target=run, args=(name, probe), daemon=True)
        for name, probe in probes.items()
        if name not in at_once
    }
    for thread in threads.values():
        thread.start()
    for name, probe in probes.items():
        if name in at_once:
            run(name, probe)
    late: Dict[str, str] = {}
    for name, thread in threads.items():
        deadline = deadlines.get(name, DEADLINE_S)
        thread.join(max(0.0, begun + deadline - time.monotonic()))
        if thread.is_alive():
            late[name] = f"no answer within {deadline:g} s"
    # A copy, without what is late: such a thread may still write into these.
    told = {**failures, **late}
    return {name: facts[name] for name in probes if name in facts and name not in told}, told


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error) or type(error).__name__
