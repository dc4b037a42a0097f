"""Which rank of the whole cluster holds up the others, by what every host tells of its own. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.plan.model import RankPlan
from worker.contract import records, standing
from worker.contract.standing import Standing

# Hosts notice the same stall within seconds of each other, and decide alone 15 s after they have told of theirs.
GATHER_S = 7.0
KINDS = frozenset({records.STALLED, records.START_TIMEOUT, records.STALL_OVER})


@dataclass(frozen=True)
class Behind:
    """Who is to be ended, and why. The reason is for people."""

    rank: int
    host: str
    reason: str


class Stalls:
    """One generation's. `hear` takes the records of KINDS."""

    def __init__(self, ranks: Iterable[RankPlan]) -> None:
        self._host_of = {rank.rank: rank.host for rank in ranks}
        self._found: dict[str, list[Standing]] = {}
        self._what = ""
        self._since: float | None = None
        self._decided = False

    def hear(self, host: str, event: Mapping[str, Any]) -> None:
        """A host has looked at its ranks, or says that they go on."""
        if event.get("type") == records.STALL_OVER:
            self._found.pop(host, None)
            self._since = self._since if self._found else None
            return
        self._found[host] = [
            one for one in standing.of_records(event.get("ranks")) if self._host_of.get(one.rank) == host
        ]
        self._what = str(event.get("what", "no progress"))[:200]

    def decide(self, now: float, over: Collection[str]) -> Behind | None:
        """Who is behind, once; hosts whose part is `over` are not waited for. To be asked again and again."""
        if not self._found or self._decided or len(set(self._host_of.values())) == 1:
            return None  # an agent that has all ranks decides by itself
        self._since = now if self._since is None else self._since
        awaited = set(self._host_of.values()) - set(self._found) - set(over)
        if awaited and now < self._since + GATHER_S:
            return None
        self._decided = True
        found = [one for host in sorted(self._found) for one in self._found[host]]
        if not found:
            return None
        return self._silent(awaited, found) or self._behind(found)

    def _behind(self, found: list[Standing]) -> Behind:
        culprit = standing.behind(found)
        return Behind(culprit.rank, self._host_of[culprit.rank], standing.told(culprit, found, self._what))

    def _silent(self, awaited: Collection[str], found: list[Standing]) -> Behind | None:
        """All that are known of wait for their peers: so one waits for whom nothing is known of."""
        unknown = [rank for rank, host in sorted(self._host_of.items()) if host in awaited]
        if not unknown or not all(one.waits and not one.stopped for one in found):
            return None
        host, waiting = self._host_of[unknown[0]], standing.ranks_told([one.rank for one in found])
        why = f"{self._what}: nothing is heard of it, and {waiting} wait" + ("s" if len(found) == 1 else "")
        return Behind(unknown[0], host, f"{why} for peers")
