"""Ranks that make no progress, or are not there in time: first it is looked where they stand, then one is to go. Pure.

Of a cluster that is all on this host, the agent itself says which. Else the coordinator does, which sees every rank; an
agent that hears nothing from it decides among its own, so that no GPU is held for nothing.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional

from ..contract import records, standing
from ..contract.standing import Standing
from .events import Look, Outbox, Stands
from .life import RankLife
from .orders import Timeouts

LOOK_S = 3.0  # for looking
VERDICT_S = 15.0  # for the coordinator to say who is behind


class Culprit(NamedTuple):
    rank: int
    reason: str


class StallWatch:
    """Over one generation's ranks. What it finds goes to the outbox."""

    def __init__(
        self, generation: int, lives: Mapping[int, RankLife], times: Timeouts, out: Outbox, *, alone: bool
    ) -> None:
        self._generation = generation
        self._lives = lives
        self._times = times
        self._out = out
        self._alone = alone  # all ranks of the cluster are here
        self._looking_since: Optional[float] = None
        self._told_at: Optional[float] = None
        self._seen: Dict[int, Stands] = {}

    def stands(self, event: Stands) -> None:
        """What a look has found."""
        self._seen[event.rank] = event

    def tick(self, t: float) -> Optional[Culprit]:
        """Who is to be ended, if it is for us to say."""
        suspects = self._suspects(t)
        if not suspects:
            if self._told_at is not None:
                self._out.write(records.STALL_OVER, generation=self._generation)
            self._looking_since = self._told_at = None
            return None
        if self._looking_since is None:
            self._looking_since = t
            self._seen.clear()
            for life in suspects:
                self._out.add(Look(self._generation, life.order.rank))
            return None
        looked = all(life.order.rank in self._seen for life in suspects)
        if self._told_at is None and (looked or t >= self._looking_since + LOOK_S):
            self._told_at = t
            self._tell(suspects, t)
        if self._told_at is None or not (self._alone or t >= self._told_at + VERDICT_S):
            return None
        found = self._standings(suspects, t)
        culprit = standing.behind(found)
        return Culprit(culprit.rank, standing.told(culprit, found, self._what(suspects)))

    def _suspects(self, t: float) -> List[RankLife]:
        trainers = [life for _, life in sorted(self._lives.items()) if life.alive and life.order.message]
        starting = [life for life in trainers if life.step is None and t >= life.begun_at + self._times.start_s]
        if starting:
            return starting
        return [life for life in trainers if life.step is not None and t >= life.progressed_at + self._times.stall_s]

    def _what(self, suspects: List[RankLife]) -> str:
        if suspects[0].step is None:
            return f"peers were not all there within {self._times.start_s:g} s"
        return f"no progress for {self._times.stall_s:g} s"

    def _tell(self, suspects: List[RankLife], t: float) -> None:
        type_ = records.START_TIMEOUT if suspects[0].step is None else records.STALLED
        found = [one.as_record() for one in self._standings(suspects, t)]
        self._out.write(type_, generation=self._generation, what=self._what(suspects), ranks=found)

    def _standings(self, suspects: List[RankLife], t: float) -> List[Standing]:
        return [self._standing(life, t) for life in suspects]

    def _standing(self, life: RankLife, t: float) -> Standing:
        rank = life.order.rank
        seen = self._seen.get(rank) or Stands(rank)
        return Standing(
            rank=rank,
            step=life.step,
            phases=life.phases,
            phase=life.phase,
            silent_s=round(t - life.heard_at, 3),
            state=seen.state,
            waits=seen.waits,
            at=seen.at,
        )
