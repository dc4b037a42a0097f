"""The supervisor's state machine: events in, instructions out. No clock, no process, no socket.

A run is a row of generations. One generation: reach every host, take command, start the ranks, watch them, and when
every host has said that its part is over, conclude. Planning again after a port was taken is a new generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.runs.copies import KINDS, Copies, Divergence
from launcher.supervise.causes import CHECK, RESUME, UNFIT_REASONS, RankEnd, explain, rank_end, root_cause
from launcher.supervise.events import (
    AgentSaid,
    End,
    Event,
    HostGone,
    HostReached,
    Instruction,
    MakePlan,
    Note,
    PlanFailed,
    PlanMade,
    Reach,
    Send,
    StartRanks,
    StopAsked,
    StopHow,
    Tick,
)
from worker.contract import records, wire
from worker.contract.states import RankState, RunState

PORT_TRIES = 3


class Machine:
    """Supervises one run from its first plan to its end. `handle` takes one event and the time of a steady clock.

    After an `End` instruction has been given, every further event is answered with nothing.
    """

    def __init__(self, plan: LaunchPlan, term: int, connect_s: float) -> None:
        self.plan = plan
        self.term = term
        self.state = RunState.PREPARING
        self._connect_s = connect_s
        self._reach_deadline = float("inf")
        self._avoid_ports: set[int] = set()
        self._port_tries = 0
        self._seen: dict[str, int] = {}  # host → number of the newest journal record that was handled
        self._at: dict[str, int] = {}  # host → generation that its agent had last when it said hello
        self._stop: StopHow | None = None
        self._ended = False
        self._begin_generation()

    # What the shell may look at.

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def stopping(self) -> StopHow | None:
        """How the run was asked to stop; a failure stops it at once. None while it is to go on."""
        return self._stop or ("now" if self._reacted else None)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.plan.hosts)

    @property
    def has_started(self) -> bool:
        """Whether ranks were started: else no host has anything that is worth waiting for."""
        return self._started

    def has_heard_of(self, host: str) -> bool:
        """Whether the host's agent has answered, at any time."""
        return host in self._seen

    def begin(self, now: float) -> list[Instruction]:
        """The first instructions of the run."""
        self._reach_deadline = now + self._connect_s
        return [Reach(host) for host in self.hosts]

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What to do about one event."""
        if self._ended:
            return []
        match event:
            case HostReached(host, hello):
                return self._reached(host, hello)
            case AgentSaid(host, message):
                return self._agent_said(host, message)
            case HostGone(host, why):
                return self._gone(host, why)
            case StopAsked(how, by):
                return self._stop_asked(how, by)
            case PlanMade(plan):
                return self._planned(plan)
            case PlanFailed(message, hint):
                return self._end(RunState.NOT_FIT, message, {"message": message, "hint": hint, "how": "planning"})
            case Tick():
                return self._tick(now)

    # A generation.

    def _begin_generation(self) -> None:
        self._commanded: set[str] = set()
        self._started = False
        self._training: set[int] = set()
        self._failures: dict[int, Mapping[str, Any]] = {}
        self._ends: dict[int, RankEnd] = {}
        self._over: set[str] = set()  # hosts whose part of the generation is over, whichever way
        self._parked = False
        self._lost: dict[str, str] = {}  # hosts whose agent is gone → why
        self._unasked = ""  # why an agent stopped ranks that nobody else wanted to stop
        self._reacted = False
        self._copies = Copies()
        self._diverged: Divergence | None = None  # found before anybody failed

    def _reached(self, host: str, hello: Mapping[str, Any]) -> list[Instruction]:
        if int(hello.get("major", 0)) != wire.MAJOR:
            return self._end(
                RunState.NOT_FIT,
                f"the agent on {host} speaks version {hello.get('major')} of the protocol, and this is {wire.MAJOR}",
            )
        self._at[host] = int(hello.get("generation", self.plan.generation))
        since = self._seen.setdefault(host, int(hello.get("seq", 0)) if not self._started else 0)
        return [Send(host, {"type": wire.COMMAND, "term": self.term, "since": since})]

    def _agent_said(self, host: str, message: Mapping[str, Any]) -> list[Instruction]:
        kind = message.get("type")
        if kind == wire.COMMANDED:
            self._commanded.add(host)
            return self._said_meanwhile(host) if self._started else self._start_if_ready()
        if kind == wire.BEAT:
            return [Send(host, {"type": wire.RENEW, "term": self.term, "nonce": message.get("nonce")})]
        if kind == wire.REFUSED:
            return self._refused(host, message)
        if kind == wire.EVENT and isinstance(message.get("event"), dict):
            return self._agent_event(host, message["event"])
        return []

    def _start_if_ready(self) -> list[Instruction]:
        if self._started or self._commanded < set(self.hosts):
            return []
        if self._stop:
            return self._end(RunState.STOPPED, "stopped before the workers were started")
        self._started = True
        self._reach_deadline = float("inf")
        ranks = [{"rank": r.rank, "host": r.host, "address": r.address, "port": r.port} for r in self.plan.ranks]
        fields = {
            "generation": self.plan.generation,
            "ranks": ranks,
            "resumes": self.plan.resumes,
            "epochs": self.plan.epochs,
        }
        return [
            Note(records.GENERATION_STARTED, fields),
            *self._to_state(RunState.STARTING),
            *(StartRanks(host) for host in self.hosts),
        ]

    def _said_meanwhile(self, host: str) -> list[Instruction]:
        """What was sent to all hosts while this one's link was lost: a stop, or the start itself."""
        if host in self._over:
            return []
        unstarted = self._at.get(host, self.plan.generation) < self.plan.generation
        how = self._stop or ("now" if self._diverged else "failed" if self._reacted else "")
        if how and unstarted:
            self._over.add(host)
            return self._conclude_if_over()
        if how:
            return [Send(host, {"type": wire.STOP, "how": how, "reason": "asked before, while the link was lost"})]
        return [StartRanks(host)] if unstarted else []

    def _refused(self, host: str, message: Mapping[str, Any]) -> list[Instruction]:
        why = str(message.get("why", "no reason given"))
        text = f"the agent on {host} refused {message.get('what')}: {why}"
        return self._end(RunState.FAILED, text, {"host": host, "message": text, "how": "refused", "hint": ""})

    def _agent_event(self, host: str, event: Mapping[str, Any]) -> list[Instruction]:
        kind, rank, seq = event.get("type"), event.get("rank"), event.get("seq")
        if isinstance(seq, int):
            if seq <= self._seen.get(host, 0):
                return []  # a new stream replays what the old one may have lost
            self._seen[host] = seq
        if event.get("generation", self.plan.generation) != self.plan.generation:
            return []
        begins = kind == records.RANK_STARTED and event.get("state") == RankState.TRAINING  # a program has no steps
        if (kind == records.RANK_FIRST_STEP or begins) and isinstance(rank, int):
            self._training.add(rank)
            everyone = self._training >= {r.rank for r in self.plan.ranks}
            return self._to_state(RunState.TRAINING) if everyone and self.state == RunState.STARTING else []
        if kind == records.RANK_FAILURE and isinstance(rank, int):
            self._failures.setdefault(rank, event)
        elif kind == records.RANK_ENDED and isinstance(rank, int):
            return self._rank_ended(host, event)
        elif kind == records.GENERATION_ENDED:
            self._over.add(host)
            return self._conclude_if_over()
        elif kind in KINDS:
            return self._compare(host, event)
        elif kind == records.LEASE_ENDED:
            self._parked = True
        elif kind == records.AGENT_LEFT:
            return self._gone(host, str(event.get("reason", "it left")))
        return []

    def _rank_ended(self, host: str, event: Mapping[str, Any]) -> list[Instruction]:
        end = rank_end(host, event, self._failures.get(int(event["rank"])))
        self._ends.setdefault(end.rank, end)
        if end.state == RankState.STOPPED and self.stopping is None and not self._parked:
            self._unasked = self._unasked or f"the agent on {host} stopped its workers: {event.get('reason')}"
        elif end.state not in (RankState.FAILED, RankState.RESCUED):
            return []
        if self._reacted:
            return []
        # The host's own agent has begun to end its other ranks; the other hosts cannot know.
        self._reacted = True
        return self._stop_hosts("failed", end.told, without=host)

    def _compare(self, host: str, event: Mapping[str, Any]) -> list[Instruction]:
        found = self._copies.add(host, dict(event))
        if found is None or self._diverged is not None:
            return []
        note = Note(records.COPIES_DIFFER, found.as_record())
        if self._reacted:  # survivors of a failure, which stays the cause
            return [note]
        self._diverged, self._reacted = found, True
        # At once: nothing that these workers could still save is of use.
        return [note, *self._stop_hosts("now", found.message)]

    def _gone(self, host: str, why: str) -> list[Instruction]:
        if host in self._over:
            return self._conclude_if_over()
        self._over.add(host)
        self._lost[host] = why
        if not self._started:
            text = f"{host}: {why}"
            return self._end(
                RunState.NOT_FIT, text, {"host": host, "message": text, "how": "unreachable", "hint": CHECK}
            )
        told = [] if self._reacted else self._stop_hosts("failed", f"the agent on {host} is gone", without=host)
        self._reacted = True
        return [*told, *self._conclude_if_over()]

    # Stopping.

    def _stop_asked(self, how: StopHow, by: str) -> list[Instruction]:
        if self._stop == "now" or (self._stop == how == "graceful"):
            return []
        self._stop = how
        note = Note(records.STOP_REQUESTED, {"how": how, "by": by})
        if not self._started:
            return [note, *self._end(RunState.STOPPED, f"stopped by {by} before the workers were started")]
        state = self._to_state(RunState.STOPPING) if self.state != RunState.STOPPING else []
        return [note, *state, *self._stop_hosts(how, by)]

    def _stop_hosts(self, how: str, reason: str, without: str = "") -> list[Instruction]:
        message = {"type": wire.STOP, "how": how, "reason": reason}
        return [Send(host, message) for host in self.hosts if host != without and host not in self._over]

    # The end of a generation.

    def _conclude_if_over(self) -> list[Instruction]:
        if self._over < set(self.hosts):
            return []
        ends = [self._ends[rank] for rank in sorted(self._ends)]
        states = {end.state for end in ends}
        if self._diverged is not None:
            return self._end(RunState.FAILED, self._diverged.message, self._diverged.as_cause())
        if len(ends) == len(self.plan.ranks) and states == {RankState.FINISHED}:
            return self._end(RunState.TRAINED, "every rank finished")
        cause = root_cause(ends)
        if cause is not None and cause.reason == "port" and not self._stop:
            return self._plan_again(cause)
        if cause is not None and cause.state == RankState.FAILED:
            return self._failed(cause)
        if self._stop and not self._lost:
            return self._end(RunState.STOPPED, "stopped as asked")
        if self._parked:
            return self._end(RunState.PARKED, "parked: the lease ran out")
        if self._lost:
            return self._agent_gone(*next(iter(self._lost.items())))
        if cause is not None:
            return self._failed(cause)
        if self._unasked:
            return self._end(
                RunState.FAILED, self._unasked, {"message": self._unasked, "how": "stopped", "hint": RESUME}
            )
        text = "the workers ended without saying why"
        return self._end(RunState.FAILED, text, {"message": text, "how": "undetermined", "hint": ""})

    def _failed(self, cause: RankEnd) -> list[Instruction]:
        text, hint = explain(cause)
        trained = bool(self._training)
        unfit = cause.reason in UNFIT_REASONS and not trained
        fields = {
            "rank": cause.rank,
            "host": cause.host,
            "generation": self.plan.generation,
            "how": cause.how,
            "reason": cause.reason,
            "message": cause.message,
            "hint": hint,
        }
        return self._end(RunState.NOT_FIT if unfit else RunState.FAILED, text, fields)

    def _agent_gone(self, host: str, why: str) -> list[Instruction]:
        text = f"the agent on {host} is gone: {why}"
        hint = f"what ran there has ended, or ends by itself; {RESUME}"
        fields = {"host": host, "generation": self.plan.generation, "how": "agent gone", "message": text, "hint": hint}
        return self._end(RunState.FAILED, text, fields)

    def _plan_again(self, cause: RankEnd) -> list[Instruction]:
        self._port_tries += 1
        if self._port_tries > PORT_TRIES:
            return self._failed(cause)
        self._avoid_ports |= {rank.port for rank in self.plan.ranks if rank.port is not None}
        reason = f"a port was taken: {explain(cause)[0]}"
        return [MakePlan(self.plan.generation + 1, frozenset(self._avoid_ports), reason)]

    def _planned(self, plan: LaunchPlan) -> list[Instruction]:
        commanded = self._commanded
        self.plan = plan
        self._begin_generation()
        self._commanded = commanded
        return self._start_if_ready()

    def _tick(self, now: float) -> list[Instruction]:
        if now < self._reach_deadline:
            return []
        waiting = ", ".join(host for host in self.hosts if host not in self._commanded)
        text = f"no agent answered within {self._connect_s:g} s on {waiting}"
        return self._end(RunState.NOT_FIT, text, {"message": text, "how": "unreachable", "hint": CHECK})

    def _end(self, state: RunState, message: str, cause: Mapping[str, Any] | None = None) -> list[Instruction]:
        self._ended = True
        self.state = state
        return [End(state, message, cause)]

    def _to_state(self, state: RunState) -> list[Instruction]:
        self.state = state
        return [Note(records.RUN_STATE, {"state": state.value})]
