"""The supervisor's state machine: events in, instructions out. No clock, no process, no socket.

A run is a row of generations. One generation: reach every host, take command, start the ranks, watch them, and when
every host has said that its part is over, conclude. A failure is answered with another generation as long as the
policy has it: wait, find the hosts that were lost, plan from the newest whole step, start (`succession`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.supervise.core.causes import CHECK
from launcher.supervise.core.departures import Departures
from launcher.supervise.core.events import (
    AgentSaid,
    Event,
    HostGone,
    HostReached,
    Instruction,
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
from launcher.supervise.core.generation import Heard
from launcher.supervise.core.journals import Journals
from launcher.supervise.core.phases import Phase
from launcher.supervise.core.policy import Policy
from worker.contract import records, wire
from worker.contract.states import RunState


class Machine(Departures):
    """Supervises one run from its first plan to its end. `handle` takes one event and the time of a steady clock.

    After an `End` instruction has been given, every further event is answered with nothing.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        term: int,
        connect_s: float,
        policy: Policy | None = None,
        failures: Sequence[tuple[float, bool, str]] = (),
    ) -> None:
        """`failures` are those of generations under an earlier coordinator: when, whether it had progressed, where."""
        super().__init__(plan, term, connect_s, policy)
        self._policy.recall(failures)
        self._muster.aside.recall([(at, host) for at, _, host in failures])
        self._journals = Journals()

    def has_heard_of(self, host: str) -> bool:
        """Whether the host's agent has answered, at any time."""
        return host in self._journals

    def take_over(
        self, stop: StopHow | None, ending: str = "", leaving: Mapping[str, str] | None = None
    ) -> list[Instruction]:
        """Instead of `begin`: the plan's generation was begun by another coordinator. What became of it the agents
        tell, or their journals. `stop`: how the run had been asked to stop; `ending`: why the generation had been;
        `leaving`: the hosts that had to go, and why."""
        self.recall_departures(leaving or {})
        self._stop, self._ending = stop, ending
        self._generation.asked_to_stop = stop is not None or bool(ending)
        self._phase = Phase.RUNNING
        self._generation.started = True
        self._journals.from_the_beginning(self.hosts)
        state = RunState.STOPPING if stop else RunState.STARTING
        return [*self._to_state(state), *(Reach(host, start=False) for host in self.at_work)]

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
            case HostGone(host, why, unreachable):
                return self._gone(host, why, unreachable=unreachable)
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
        self._muster.hears(host)
        self._muster.found(host, hello, self.plan.generation)
        since = self._journals.since(host, int(hello.get("seq", 0)), of_interest=self._generation.started)
        return [Send(host, {"type": wire.COMMAND, "term": self.term, "since": since})]

    def _agent_said(self, host: str, message: Mapping[str, Any]) -> list[Instruction]:
        kind = message.get("type")
        if kind == wire.COMMANDED:
            self._muster.obey.add(host)
            if "generation" in message:
                self._muster.found(host, message, self.plan.generation)
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
            return self._break_up([host]) if self._muster.recovery.is_busy(host) else self._plan_if_ready()
        if self._phase is not Phase.RUNNING or host in self._generation.over:
            return []
        if host not in self.at_work:
            return self._break_up(self._muster.busy_in_vain())
        unstarted = not self._muster.has_begun(host, self.plan.generation)
        how = self._stop or ("now" if self._generation.diverged else self._generation.reaction)
        how = "failed" if how == "stalled" else how
        how = how or ("graceful" if self._ending else "")
        if how and unstarted:
            self._generation.over.add(host)
            return self._conclude_if_over()
        if how:
            return [Send(host, {"type": wire.STOP, "how": how, "reason": "asked before, while the link was lost"})]
        return [StartRanks(host)] if unstarted else []

    def _break_up(self, hosts: Iterable[str]) -> list[Instruction]:
        """On these hosts ranks are alive that did not hear that their generation has ended."""
        message = {"type": wire.STOP, "how": "failed", "reason": "its generation has ended elsewhere"}
        return [Send(host, message) for host in hosts]

    def _refused(self, host: str, message: Mapping[str, Any]) -> list[Instruction]:
        why = str(message.get("why", "no reason given"))
        if int(message.get("term") or 0) > self.term:
            self._ended = True
            return [Yield(f"{host}: {why}")]
        if message.get("what") in (wire.COMMAND, wire.RENEW) or host not in self.at_work:
            return []  # its lease has ended or it was told to go: what became of its ranks its journal tells
        text = f"the agent on {host} refused {message.get('what')}: {why}"
        return self._end(RunState.FAILED, text, {"host": host, "message": text, "how": "refused", "hint": ""})

    def _gone(self, host: str, why: str, *, unreachable: bool = False) -> list[Instruction]:
        works = host in self.at_work
        if self._phase is Phase.REACHING and works and self.plan.generation == 1 and not self._restarted:
            text = f"{host}: {why}"
            cause = {"host": host, "message": text, "how": "unreachable", "hint": CHECK}
            return self._end(RunState.NOT_FIT, text, cause)
        self._muster.lost(host, why, self._now, unreachable=unreachable)
        if self._phase is not Phase.RUNNING:
            if self._phase is Phase.RECOVERING and self._due == float("inf"):
                self._due = self._now  # all had been found: nobody looks for it yet
            return self._seek() if self._phase is Phase.REACHING and works else []
        if not works:
            return []
        if host in self._generation.over:
            return self._conclude_if_over()
        note = Note(records.HOST_LOST, {"host": host, "why": why, "unreachable": unreachable})
        return [note, *self._do(self._generation.lose(host, why))]

    # A generation.

    def _start_if_ready(self) -> list[Instruction]:
        if self._phase is not Phase.REACHING or not self._muster.obey >= set(self.at_work):
            return []
        if self._stop:
            return self._end(RunState.STOPPED, "stopped before the workers were started")
        self._generation.started = True
        self._phase, self._due = Phase.RUNNING, float("inf")
        without = self._muster.without(self._now)
        return [
            Note(
                records.GENERATION_STARTED,
                {**self._generation.as_record(), **({"without": without} if without else {})},
            ),
            *self._to_state(RunState.STARTING),
            *self._break_up(self._muster.busy_in_vain()),
            *(StartRanks(host) for host in self.at_work),
        ]

    def _agent_event(self, host: str, event: Mapping[str, Any]) -> list[Instruction]:
        if not self._journals.is_news(host, event):  # a new stream tells again what the old one may have lost
            return []
        if event.get("type") == records.CHECKPOINT_PRUNED and event.get("why"):
            return [Note(records.REMARK, {"text": f"{host} removed {event.get('name')}: {event['why']}"})]
        if event.get("type") == records.GENERATION_ENDED:
            self._muster.recovery.rests(host, int(event.get("generation", self.plan.generation)))
        if event.get("type") == records.HOST_GOING:
            return self._hear_of_going(host, event)
        if self._phase is not Phase.RUNNING:
            return self._plan_if_ready()
        if host not in self.at_work:
            return []
        instructions = self._do(self._generation.hear(host, event))
        return [*instructions, *(self._grow() if self._generation.is_checkpoint(event) else [])]

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
            when = "between two generations" if self._restarted else "before the workers were started"
            return [note, *self._end(RunState.STOPPED, f"stopped by {by} {when}")]
        return [note, *self._to_state(RunState.STOPPING), *self._stop_hosts(how, by)]
