"""The checks, one module for each group: pure functions from what was seen to findings.

A module's name is the group's, `check` its only door.
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.check.finding import Finding, Seen
from launcher.check.groups import (
    address,
    clock,
    deep,
    disk,
    gpus,
    limits,
    logout,
    pairs,
    plan,
    ports,
    proxies,
    python,
    reach,
    tensorflow,
    users,
)

# In the order in which they are shown.
GROUPS: dict[str, Callable[[Seen], list[Finding]]] = {
    "reach": reach.check,
    "python": python.check,
    "tensorflow": tensorflow.check,
    "gpus": gpus.check,
    "plan": plan.check,
    "disk": disk.check,
    "limits": limits.check,
    "clock": clock.check,
    "proxies": proxies.check,
    "address": address.check,
    "ports": ports.check,
    "pairs": pairs.check,
    "users": users.check,
    "logout": logout.check,
    "deep": deep.check,
}


def findings(seen: Seen) -> list[Finding]:
    """What all checks came to."""
    return [finding for check in GROUPS.values() for finding in check(seen)]
