"""The hosts' clocks as they were found before the run: what a host tells is set right, and in doubt by so much. Pure.

An offset comes from the fastest of several questions and answers: the host's clock is off by it, give or take half of
the way there and back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.runs.clocks import by_ours
from worker.contract import records
from worker.contract.records import Record

DRIFT = 1e-4  # of the time since: a clock that nobody sets goes wrong by less
UNKNOWN_S = 2.0  # of a machine whose clock was never compared; one that is further off would have been told


@dataclass(frozen=True)
class Offset:
    """How far a host's clock is ahead of ours, and by how much that may be wrong. Seconds."""

    ahead_s: float
    error_s: float


@dataclass(frozen=True)
class Clocks:
    """`remote`: hosts that are other machines; all others have our clock."""

    offsets: Mapping[str, Offset] = field(default_factory=dict)
    remote: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.monotonic
    since: float = field(default_factory=time.monotonic)

    def by_ours(self, host: str, record: Mapping[str, Any]) -> Record:
        """A host's record by our clock; with `doubt_s`, if there is doubt."""
        if host not in self.remote:
            return dict(record)
        offset = self.offsets.get(host, Offset(0.0, UNKNOWN_S))
        doubt = offset.error_s + DRIFT * (self.clock() - self.since)
        return {**by_ours(record, offset.ahead_s), "doubt_s": round(doubt, 4)}


def as_record(offsets: Mapping[str, Offset]) -> dict[str, list[float]]:
    """For a journal."""
    return {host: [round(one.ahead_s, 4), round(one.error_s, 4)] for host, one in offsets.items()}


def of_journal(events: Sequence[Record]) -> dict[str, Offset]:
    """What an earlier coordinator of the run had found, by host."""
    found: dict[str, Offset] = {}
    for record in events:
        told = record.get("offsets") if record["type"] == records.COORDINATOR_STARTED else None
        for host, pair in told.items() if isinstance(told, dict) else ():
            if isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, (int, float)) for one in pair):
                found[host] = Offset(float(pair[0]), abs(float(pair[1])))
    return found
