"""How long a lost link is waited for. Pure."""

from __future__ import annotations

from launcher.spec.model import Timeouts
from launcher.supervise.core.events import StopHow

UNKILLABLE_S = 12.0


def patience_s(stopping: StopHow | None, breaking: bool, timeouts: Timeouts) -> float:
    """How long a lost link is waited for: until nobody can be training there any more, since the lease has run out; but
    no longer than a stop may take once one is under way, and while a generation breaks no longer than any host is."""
    if stopping is None and breaking:
        return timeouts.host
    lease = timeouts.lease if stopping is None else 0.0
    return lease + timeouts.stop + UNKILLABLE_S + (timeouts.checkpoint if stopping != "now" else 0.0)
