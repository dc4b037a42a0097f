"""The supervisor's state machine: events in, instructions out. No clock, no process, no socket.

A run is a row of generations. One generation: reach every host, take command, start the ranks, watch them, and when
every host has said that its part is over, conclude. A failure is answered with another generation as long as the
policy has it: wait, find the hosts that were lost, plan from the newest whole step, start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.spec.model import RestartSpec
from launcher.supervise.causes import CHECK
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
    Yield,
)
from launcher.supervise.generation import Generation, Heard, Outcome
from launcher.supervise.journals import Journals
from launcher.supervise.phases import Phase
from launcher.supervise.policy import Enough, Failure, Policy
from launcher.supervise.recovery import Recovery
from worker.contract import records, wire
from worker.contract.states import RunState

PORT_TRIES = 3
GENERATIONS_APART = 4  # before a port is used again


class Machine:
    """Supervises one run from its first plan to its end. `handle` takes one event and the time of a steady clock.

    After an `End` instruction has been given, every further event is answered with nothing.
    """

    def __init__(self, plan: LaunchPlan, term: int, connect_s: float, policy: Policy | None = None) -> None:
        self.plan = plan
        self.term = term
        self.state = RunState.PREPARING
        self._policy = policy or Policy(RestartSpec(max=0))
        self._recovery = Recovery(connect_s, self._policy.spec.per)
        self._connect_s = connect_s
        self._phase = Phase.REACHING
        self._due = float("inf")  # when the phase has something to do by itself
        self._now = 0.0
        self._generation = Generation(plan)
        self._commanded: set[str] = set()
        self._ports_before: deque[set[int]] = deque(maxlen=GENERATIONS_APART)
        self._port_tries = 0
        self._journals = Journals()
        self._at: dict[str, int] = {}  # host → generation that its agent had last when it said hello
        self._stop: StopHow | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def stopping(self) -> StopHow | None:
        """How the run was asked to stop. None while it is to go on."""
        return self._stop

    @property
    def breaking(self) -> bool:
        """Whether the generation has failed and is being ended: a host that cannot be heard is not waited for long."""
        return self._phase is Phase.RUNNING and self._generation.reacted

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.plan.hosts)

    def has_heard_of(self, host: str) -> bool:
        """Whether the host's agent has answered, at any time."""
        return host in self._journals

    def take_over(self, stop: StopHow | None) -> list[Instruction]:
        """Instead of `begin`: the plan's generation was begun by another coordinator. What became of it the agents
        tell, or their journals. `stop`: how the run had been asked to stop."""
        self._stop, self._generation.asked_to_stop = stop, stop is not None
        self._phase = Phase.RUNNING
        self._generation.started = True
        self._journals.from_the_beginning(self.hosts)
        state = RunState.STOPPING if stop else RunState.STARTING
        return [*self._to_state(state), *(Reach(host, start=False) for host in self.hosts)]

    def begin(self, now: float) -> list[Instruction]:
        """The first instructions of the run."""
        self._due = now + self._connect_s
        return [Reach(host) for host in self.hosts]

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What to do about one event."""
        if self._ended:
            return []
        self._now = now
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
            case PlanFailed():
                return self._not_planned(event)
            case Tick():
                return self._tick()

    # Hosts.

    def _reached(self, host: str, hello: Mapping[str, Any]) -> list[Instruction]:
        if int(hello.get("major", 0)) != wire.MAJOR:
            return self._end(
                RunState.NOT_FIT,
                f"the agent on {host} speaks version {hello.get('major')} of the protocol, and this is {wire.MAJOR}",
            )
        self._commanded.discard(host)  # over this stream it obeys only once it has said so
        self._found(host, hello)
        since = self._journals.since(host, int(hello.get("seq", 0)), of_interest=self._generation.started)
        return [Send(host, {"type": wire.COMMAND, "term": self.term, "since": since})]

    def _found(self, host: str, told: Mapping[str, Any]) -> None:
        self._at[host] = int(told.get("generation", self.plan.generation))
        self._recovery.found(host, self._at[host], busy=bool(told.get("busy", told.get("alive"))))

    def _agent_said(self, host: str, message: Mapping[str, Any]) -> list[Instruction]:
        kind = message.get("type")
        if kind == wire.COMMANDED:
            self._commanded.add(host)
            if "generation" in message:
                self._found(host, message)
            return self._said_meanwhile(host)
        if kind == wire.BEAT:
            return [Send(host, {"type": wire.RENEW, "term": self.term, "nonce": message.get("nonce")})]
        if kind == wire.REFUSED:
            return self._refused(host, message)
        if kind == wire.EVENT and isinstance(message.get("event"), dict):
            return self._agent_event(host, message["event"])
        return []

    def _said_meanwhile(self, host: str) -> list[Instruction]:
        """What was sent to all hosts while this one's link was lost: a stop, or the start itself."""
        if self._phase is Phase.REACHING:
            return self._start_if_ready()
        if self._phase is Phase.RECOVERING:
            if self._recovery.is_busy(host):  # it did not hear that its generation has ended
                reason = "its generation has ended elsewhere"
                return [Send(host, {"type": wire.STOP, "how": "failed", "reason": reason})]
            return self._plan_if_ready()
        if self._phase is not Phase.RUNNING or host in self._generation.over:
            return []
        unstarted = self._at.get(host, self.plan.generation) < self.plan.generation
        how = self._stop or ("now" if self._generation.diverged else "failed" if self._generation.reacted else "")
        if how and unstarted:
            self._generation.over.add(host)
            return self._conclude_if_over()
        if how:
            return [Send(host, {"type": wire.STOP, "how": how, "reason": "asked before, while the link was lost"})]
        return [StartRanks(host)] if unstarted else []

    def _refused(self, host: str, message: Mapping[str, Any]) -> list[Instruction]:
        why = str(message.get("why", "no reason given"))
        if int(message.get("term") or 0) > self.term:
            self._ended = True
            return [Yield(f"{host}: {why}")]
        if message.get("what") in (wire.COMMAND, wire.RENEW):
            return []  # its lease has ended or it was told to go: what became of its ranks its journal tells
        text = f"the agent on {host} refused {message.get('what')}: {why}"
        return self._end(RunState.FAILED, text, {"host": host, "message": text, "how": "refused", "hint": ""})

    def _gone(self, host: str, why: str) -> list[Instruction]:
        self._commanded.discard(host)
        if self._phase is Phase.REACHING and self.plan.generation == 1 and not self._policy.told:
            text = f"{host}: {why}"
            cause = {"host": host, "message": text, "how": "unreachable", "hint": CHECK}
            return self._end(RunState.NOT_FIT, text, cause)
        self._recovery.lost(host, why, self._now)
        if self._phase is not Phase.RUNNING:
            if self._phase is Phase.RECOVERING and self._due == float("inf"):
                self._due = self._now  # all had been found: nobody looks for it yet
            return self._recover() if self._phase is Phase.REACHING else []
        over = host in self._generation.over
        return self._conclude_if_over() if over else self._do(self._generation.lose(host, why))

    # A generation.

    def _start_if_ready(self) -> list[Instruction]:
        if self._phase is not Phase.REACHING or self._commanded < set(self.hosts):
            return []
        if self._stop:
            return self._end(RunState.STOPPED, "stopped before the workers were started")
        self._generation.started = True
        self._phase, self._due = Phase.RUNNING, float("inf")
        return [
            Note(records.GENERATION_STARTED, self._generation.as_record()),
            *self._to_state(RunState.STARTING),
            *(StartRanks(host) for host in self.hosts),
        ]

    def _agent_event(self, host: str, event: Mapping[str, Any]) -> list[Instruction]:
        if not self._journals.is_news(host, event):  # a new stream tells again what the old one may have lost
            return []
        if event.get("type") == records.CHECKPOINT_PRUNED and event.get("why"):
            return [Note(records.REMARK, {"text": f"{host} removed {event.get('name')}: {event['why']}"})]
        if event.get("type") == records.GENERATION_ENDED:
            self._recovery.rests(host, int(event.get("generation", self.plan.generation)))
        if self._phase is not Phase.RUNNING:
            return self._plan_if_ready()
        return self._do(self._generation.hear(host, event))

    def _do(self, heard: Heard) -> list[Instruction]:
        """What follows from what a host told of the generation."""
        instructions: list[Instruction] = []
        if heard.all_train and self.state == RunState.STARTING:
            instructions += self._to_state(RunState.TRAINING)
        if heard.differ is not None:
            instructions.append(Note(records.COPIES_DIFFER, heard.differ))
        if heard.stop is not None:
            instructions += self._stop_hosts(*heard.stop, rank=heard.rank)
        if heard.left:
            return [*instructions, *self._gone(*heard.left)]
        return [*instructions, *self._conclude_if_over()]

    # Stopping.

    def _stop_asked(self, how: StopHow, by: str) -> list[Instruction]:
        if self._stop == "now" or (self._stop == how == "graceful"):
            return []
        self._stop, self._generation.asked_to_stop = how, True
        note = Note(records.STOP_REQUESTED, {"how": how, "by": by})
        if self._phase is not Phase.RUNNING:
            when = "between two generations" if self._policy.told else "before the workers were started"
            return [note, *self._end(RunState.STOPPED, f"stopped by {by} {when}")]
        return [note, *self._to_state(RunState.STOPPING), *self._stop_hosts(how, by)]

    def _stop_hosts(self, how: str, reason: str, without: str = "", rank: int | None = None) -> list[Instruction]:
        message = {"type": wire.STOP, "how": how, "reason": reason} | ({} if rank is None else {"rank": rank})
        return [Send(host, message) for host in self.hosts if host != without and host not in self._generation.over]

    # The end of a generation, and what comes after it.

    def _conclude_if_over(self) -> list[Instruction]:
        if self._phase is not Phase.RUNNING or not self._generation.all_over:
            return []
        outcome = self._generation.outcome(stopping=self._stop is not None)
        if outcome.port and self._stop is None and self._port_tries < PORT_TRIES:
            self._port_tries += 1
            return self._make_plan(f"a port was taken: {outcome.message}", onward=False)
        if outcome.failure is not None and self._stop is None:
            return self._failed(outcome, outcome.failure)
        return self._end(outcome.state, outcome.message, outcome.cause)

    def _failed(self, outcome: Outcome, failure: Failure) -> list[Instruction]:
        answer = self._policy.after(failure, self._now)
        if isinstance(answer, Enough):
            state = RunState.FAULTY if answer.faulty else outcome.state
            cause = dict(outcome.cause or {"message": outcome.message, "how": "", "hint": ""})
            cause["hint"] = cause.get("hint") or answer.hint
            return self._end(state, f"{outcome.message}; {answer.why}" if answer.why else outcome.message, cause)
        self._phase, self._due = Phase.PAUSING, self._now + answer.pause_s
        return [
            Note(records.RESTART, self._generation.as_restart(outcome, failure, answer.pause_s)),
            *self._to_state(RunState.RESTARTING),
            *(self._recover() if answer.pause_s == 0 else []),
        ]

    def _recover(self) -> list[Instruction]:
        """Reach the hosts that were lost."""
        if self._recovery.hopeless(self._now):
            text, host = self._recovery.told(self._now), self._recovery.longest_gone
            return self._end(RunState.FAILED, text, {"host": host, "message": text, "how": "unreachable", "hint": ""})
        self._phase = Phase.RECOVERING
        missing = self._missing()
        self._due = self._now + self._recovery.try_for_s() if missing else float("inf")
        return [*map(Reach, missing), *self._plan_if_ready()]

    def _plan_if_ready(self) -> list[Instruction]:
        if self._phase is not Phase.RECOVERING or self._commanded < set(self.hosts) or self._recovery.any_busy:
            return []
        return self._make_plan("the last generation failed", onward=True)

    def _missing(self) -> list[str]:
        return [host for host in self.hosts if host not in self._commanded]

    def _make_plan(self, reason: str, *, onward: bool) -> list[Instruction]:
        """The ports of the last generations are left alone: an earlier holder may be alive yet."""
        self._phase, self._due = Phase.PLANNING, float("inf")
        self._ports_before.append({rank.port for rank in self.plan.ranks if rank.port is not None})
        avoid = frozenset().union(*self._ports_before)
        fresh = self._recovery.take_fresh()
        afresh = bool(fresh) or not self._generation.progressed
        newest = max([self.plan.generation, *self._at.values()])  # another coordinator may have begun one since
        return [MakePlan(newest + 1, avoid, reason, onward, fresh, afresh)]

    def _planned(self, plan: LaunchPlan) -> list[Instruction]:
        if self._phase is not Phase.PLANNING:
            return []
        self.plan = plan
        self._generation = Generation(plan)
        self._phase, self._due = Phase.REACHING, self._now + self._connect_s
        if self._commanded >= set(self.hosts):
            return self._start_if_ready()
        return [*map(Reach, self._missing())]

    def _not_planned(self, failed: PlanFailed) -> list[Instruction]:
        if self._phase is not Phase.PLANNING:
            return []
        cause = {"message": failed.message, "hint": failed.hint, "how": "planning"}
        if failed.fatal or not self._policy.told:
            return self._end(RunState.NOT_FIT, failed.message, cause)
        return self._failed(Outcome(RunState.FAILED, failed.message, cause), Failure(failed.message, progressed=False))

    def _tick(self) -> list[Instruction]:
        if self._now < self._due:
            return self._do(self._generation.tick(self._now)) if self._phase is Phase.RUNNING else []
        if self._phase in (Phase.PAUSING, Phase.RECOVERING) or (self._phase is Phase.REACHING and self._policy.told):
            return self._recover()
        text = f"no agent answered within {self._connect_s:g} s on {', '.join(self._missing())}"
        return self._end(RunState.NOT_FIT, text, {"message": text, "how": "unreachable", "hint": CHECK})

    def _end(self, state: RunState, message: str, cause: Mapping[str, Any] | None = None) -> list[Instruction]:
        self._ended = True
        self.state = state
        return [End(state, message, cause)]

    def _to_state(self, state: RunState) -> list[Instruction]:
        before, self.state = self.state, state
        return [] if before is state else [Note(records.RUN_STATE, {"state": state.value})]
