"""What the coordinator knows of one life of the cluster, and what its end was. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.runs.copies import KINDS, Copies, Divergence
from launcher.supervise.core.causes import (
    RESUME,
    UNFIT_REASONS,
    Found,
    Kind,
    RankEnd,
    about,
    explain,
    kind_of,
    rank_end,
    root_cause,
)
from launcher.supervise.core.policy import Failure, Signature
from launcher.supervise.core.stalls import KINDS as OF_STALLS
from launcher.supervise.core.stalls import Stalls
from worker.contract import records
from worker.contract.layout import parse_checkpoint_name
from worker.contract.states import RankState, RunState, WorkerExit

# Ends that come of the program itself: told by the worker or by its exit, and not by what happened to it.
_NOT_ITS_OWN = frozenset({"peer", "port", "environment"})
_LAST = frozenset({"end", "asked", "rescue"})  # checkpoints after which workers leave anyway


@dataclass(frozen=True)
class Outcome:
    """The end of a generation: what the run ends with unless another one is begun.

    `failure` is None where no other one may be begun; `port`: one of the ports was taken.
    """

    state: RunState
    message: str
    cause: Mapping[str, Any] | None = None
    failure: Failure | None = None
    port: bool = False


@dataclass(frozen=True)
class Heard:
    """What follows from something that a host told."""

    all_train: bool = False  # now every rank has finished a step
    stop: tuple[str, str, str] | None = None  # how the hosts are to be stopped, why, and which one needs not be told
    rank: int | None = None  # with `stop`: the rank that holds up the others
    differ: Mapping[str, Any] | None = None  # copies of a checkpoint that are unlike each other
    left: tuple[str, str] | None = None  # a host's agent that has gone, and why


class Generation:
    """Takes in what hosts say of their ranks. `over` holds the hosts whose part has ended, whichever way."""

    def __init__(self, plan: LaunchPlan) -> None:
        self.plan = plan
        self.started = False
        self.over: set[str] = set()
        self.lost: dict[str, str] = {}  # hosts whose agent is gone → why
        self.parked = False
        self.asked_to_stop = False  # by whoever may stop a run
        self._unasked = ""  # why an agent stopped ranks that nobody else wanted to stop
        self.going: set[str] = set()  # hosts that have to go: what they lose now was announced
        self.reaction = ""  # how the hosts were told to end because of what one of them has told
        self.diverged: Divergence | None = None  # found before anybody failed
        self._training: set[int] = set()
        self._heard_of: set[str] = set()  # hosts that have told of this generation
        self._failures: dict[int, Mapping[str, Any]] = {}
        self._ends: dict[int, RankEnd] = {}
        self._copies = Copies()
        self._stalls = Stalls(plan.ranks)
        self._stepped = False
        parsed = parse_checkpoint_name(plan.resumes)
        self._newest = parsed[1] if parsed else 0

    def as_record(self) -> dict[str, Any]:
        """The fields of a GENERATION_STARTED record."""
        p = self.plan
        ranks = [{"rank": r.rank, "host": r.host, "address": r.address, "port": r.port} for r in p.ranks]
        return {"generation": p.generation, "ranks": ranks, "resumes": p.resumes, "epochs": p.epochs}

    def as_restart(self, outcome: Outcome, failure: Failure, pause_s: float) -> dict[str, Any]:
        """The fields of a RESTART record."""
        return {
            **(outcome.cause or {}),
            "generation": self.plan.generation,
            "message": outcome.message,
            "pause_s": round(pause_s, 3),
            "progressed": failure.progressed,
        }

    def as_planned_end(self, reason: str) -> dict[str, Any]:
        """The fields of a RESTART record after an end that nothing was lost by."""
        generation = self.plan.generation
        return {"generation": generation, "message": reason, "pause_s": 0.0, "progressed": True, "planned": True}

    @property
    def all_over(self) -> bool:
        return self.over >= {host.name for host in self.plan.at_work}

    @property
    def progressed(self) -> bool:
        """Whether a step is known to have been done, or saved."""
        return self._stepped

    def is_checkpoint(self, event: Mapping[str, Any]) -> bool:
        """Whether one was published that was due: at another step no generation is ended without need."""
        of_this = event.get("generation") == self.plan.generation
        return of_this and event.get("type") == records.CHECKPOINT and event.get("why") not in _LAST

    @property
    def reacted(self) -> bool:
        """Whether the hosts have been told to end, not because it was asked for."""
        return bool(self.reaction)

    def hear(self, host: str, event: Mapping[str, Any]) -> Heard:
        """Take in a record of a host's journal; what follows from it. One of another generation says nothing."""
        kind, rank = event.get("type"), event.get("rank")
        if event.get("generation", self.plan.generation) != self.plan.generation:
            return Heard()
        if "generation" in event:
            self._heard_of.add(host)
        elif kind in (records.LEASE_ENDED, records.AGENT_LEFT) and host not in self._heard_of:
            return Heard()  # of an agent before this generation: its journal is told again from the beginning
        begins = kind == records.RANK_STARTED and event.get("state") == RankState.TRAINING  # a program has no steps
        if (kind == records.RANK_FIRST_STEP or begins) and isinstance(rank, int):
            return self._begins_to_train(rank, None if begins else int(event.get("step") or 0))
        if kind == records.RANK_FAILURE and isinstance(rank, int):
            self._failures.setdefault(rank, event)
        elif kind == records.RANK_ENDED and isinstance(rank, int):
            return self._rank_ended(host, event)
        elif kind == records.GENERATION_ENDED:
            self.over.add(host)
        elif kind in KINDS:
            return self._compare(host, event)
        elif kind in OF_STALLS:
            self._stalls.hear(host, event)
        elif kind == records.LEASE_ENDED:
            self.parked = True
        elif kind == records.AGENT_LEFT:
            return Heard(left=(host, str(event.get("reason", "it left"))))
        return Heard()

    def tick(self, now: float) -> Heard:
        """Time goes on; `now` is a steady clock's."""
        behind = None if self.reacted or self.asked_to_stop else self._stalls.decide(now, self.over)
        if behind is None:
            return Heard()
        return replace(self._react("stalled", behind.reason, without=""), rank=behind.rank)

    def lose(self, host: str, why: str) -> Heard:
        """A host's agent is gone, and what it minded with it."""
        self.over.add(host)
        self.lost[host] = why
        if host in self.going:  # all were asked to save before: its peers learn of it from their collectives
            return Heard()
        return self._react("failed", f"the agent on {host} is gone", without=host)

    def _begins_to_train(self, rank: int, step: int | None) -> Heard:
        before = len(self._training)
        self._training.add(rank)
        if step is not None:
            self._stepped = True
            self._reached(step)
        return Heard(all_train=before < len(self._training) == len(self.plan.ranks))

    def _rank_ended(self, host: str, event: Mapping[str, Any]) -> Heard:
        end = rank_end(host, event, self._failures.get(int(event["rank"])))
        self._ends.setdefault(end.rank, end)
        if isinstance(end.step, int):
            self._reached(end.step)
        if end.state == RankState.STOPPED and not (self.asked_to_stop or self.parked or self.reacted):
            self._unasked = f"the agent on {host} stopped its workers: {event.get('reason')}"
            # A trainer's rank stops only together with all others, and they may be saving yet.
            how = "graceful" if end.exit_code == WorkerExit.STOPPED else "failed"
            return self._react(how, self._unasked, without=host)
        if end.state not in (RankState.FAILED, RankState.RESCUED):
            return Heard()
        # The host's own agent has begun to end its other ranks; the other hosts cannot know.
        return self._react("failed", end.told, without=host)

    def _compare(self, host: str, event: Mapping[str, Any]) -> Heard:
        step = event.get("step")
        if event.get("type") == records.CHECKPOINT and isinstance(step, int):
            self._stepped |= step > self._newest
            self._reached(step)
        found = self._copies.add(host, dict(event))
        if found is None or self.diverged is not None:
            return Heard()
        if self.reacted:  # survivors of a failure, which stays the cause
            return Heard(differ=found.as_record())
        self.diverged = found
        # At once: nothing that these workers could still save is of use.
        return replace(self._react("now", found.message, without=""), differ=found.as_record())

    def _react(self, how: str, reason: str, without: str) -> Heard:
        if self.reacted:
            return Heard()
        self.reaction = how
        return Heard(stop=(how, reason, without))

    @property
    def unexplained(self) -> bool:
        """Whether ranks say that they lost their peers, and nobody is known to have died."""
        found = root_cause(list(self._ends.values()))
        return found is not None and kind_of(found.end) is Kind.VICTIM and not (self.lost or self.going)

    def outcome(self, *, stopping: bool) -> Outcome:
        """What its end was. `stopping`: somebody had asked for a stop."""
        ends = [self._ends[rank] for rank in sorted(self._ends)]
        if self.diverged is not None:
            return Outcome(RunState.FAILED, self.diverged.message, self.diverged.as_cause())
        if len(ends) == len(self.plan.ranks) and {end.state for end in ends} == {RankState.FINISHED}:
            return Outcome(RunState.TRAINED, "every rank finished")
        cause = root_cause(ends)
        announced = cause is not None and cause.end.host in self.going and cause.end.signal is not None
        if cause is not None and cause.end.state == RankState.FAILED and not announced:
            return self._failed(cause)
        if stopping and self.going.issuperset(self.lost):
            return Outcome(RunState.STOPPED, "stopped as asked")
        if self.parked:
            return Outcome(RunState.PARKED, "parked: the lease ran out")
        if self.lost:
            return self._agent_gone(*next(iter(self.lost.items())))
        if cause is not None:
            return self._failed(cause)
        if self._unasked:
            return self._failure(
                RunState.FAILED, self._unasked, {"message": self._unasked, "how": "stopped", "hint": RESUME}
            )
        text = "the workers ended without saying why"
        return self._failure(RunState.FAILED, text, {"message": text, "how": "undetermined", "hint": ""})

    def _failed(self, found: Found) -> Outcome:
        text, hint = explain(found)
        cause = found.end
        fields: dict[str, Any] = {
            "rank": cause.rank,
            "host": cause.host,
            "generation": self.plan.generation,
            "how": cause.how,
            "reason": cause.reason,
            "message": about(cause),
            "hint": hint,
        }
        if found.also:
            fields["also"] = [{"rank": end.rank, "host": end.host, "how": end.how} for end in found.also]
        if cause.reason == "port":
            return Outcome(RunState.FAILED, text, fields, port=True)
        if cause.reason in UNFIT_REASONS and not self._training and self.plan.generation == 1:
            return Outcome(RunState.NOT_FIT, text, fields)
        return self._failure(RunState.FAILED, text, fields, found)

    def _agent_gone(self, host: str, why: str) -> Outcome:
        text = f"the agent on {host} is gone: {why}"
        hint = f"what ran there has ended, or ends by itself; {RESUME}"
        fields = {"host": host, "generation": self.plan.generation, "how": "agent gone", "message": text, "hint": hint}
        return self._failure(RunState.FAILED, text, fields)

    def _failure(self, state: RunState, text: str, fields: Mapping[str, Any], found: Found | None = None) -> Outcome:
        signature = None
        if found is not None and found.error and not {end.reason for end in found.all} & _NOT_ITS_OWN:
            signature = Signature(found.error, self._place(found.end))
        repeats = found is not None and found.end.reason == "diverged"
        return Outcome(state, text, fields, Failure(text, self._stepped, signature, repeats=repeats))

    def _place(self, cause: RankEnd) -> int | None:
        step = cause.failure.get("step")
        if isinstance(step, int):
            return step
        return self._newest or None

    def _reached(self, step: int) -> None:
        self._newest = max(self._newest, step)
