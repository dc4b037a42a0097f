"""Which ranks save checkpoints: one on each of so many hosts, so that one machine may be lost. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.plan.environment import Seat
from launcher.spec.model import ClusterSpec

USUAL = 2


def savers(spec: ClusterSpec, seats: Sequence[Seat]) -> frozenset[int]:
    """The chief, and the lowest rank of each further host that is to have a copy; nobody for a program.

    Hosts on machines that have none yet go before those that share one; else the order is the spec's. Fewer hosts than
    copies: each has one.
    """
    if spec.train is None:
        return frozenset()
    lowest: dict[str, Seat] = {}
    for seat in seats:
        lowest.setdefault(seat.host.name, seat)
    used: set[str] = set()
    apart: list[int] = []
    beside: list[int] = []
    for seat in lowest.values():
        machine = seat.facts.machine if seat.facts else f"of host {seat.host.name}"
        (beside if machine in used else apart).append(seat.rank)
        used.add(machine)
    return frozenset([*apart, *beside][: spec.checkpoint.copies or USUAL])
