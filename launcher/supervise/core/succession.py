"""What comes between two generations: the end of one, whether another follows, with which hosts, its plan. Pure.

A generation ends because it failed, or as planned (`end_generation`): all save at a step they agree on and leave. A
failure is answered as long as the policy has it. Then the hosts of the next generation are sought, and once enough of
them obey and are at rest (`muster`), it is planned from the newest whole step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.spec.model import RestartSpec
from launcher.supervise.core.causes import CHECK
from launcher.supervise.core.events import End, Instruction, MakePlan, Note, PlanFailed, Reach, Send, StopHow
from launcher.supervise.core.generation import Generation, Heard, Outcome
from launcher.supervise.core.muster import Muster
from launcher.supervise.core.phases import Phase
from launcher.supervise.core.policy import Enough, Failure, Policy
from worker.contract import records, wire
from worker.contract.states import RunState

PORT_TRIES = 3
APART_PAUSE_S = 5.0  # between two tries whether all hosts reach each other again
GENERATIONS_APART = 4  # before a port is used again


class Succession(ABC):
    """Where a run is, and the row of its generations. `machine` adds what is heard and said in one of them."""

    def __init__(self, plan: LaunchPlan, term: int, connect_s: float, policy: Policy | None = None) -> None:
        self.plan = plan
        self.term = term
        self.state = RunState.PREPARING
        self._policy = policy or Policy(RestartSpec(max=0))
        self._muster = Muster(plan, connect_s, self._policy.spec)
        self._connect_s = connect_s
        self._phase = Phase.REACHING
        self._due = float("inf")  # when the phase has something to do by itself
        self._now = 0.0
        self._generation = Generation(plan)
        self._ports_before: deque[set[int]] = deque(maxlen=GENERATIONS_APART)
        self._port_tries = 0
        self._apart_since: float | None = None  # since when hosts are known not to reach each other
        self._stop: StopHow | None = None
        self._ending = ""  # why the generation is ended without a failure, to begin another one
        self._restarted = False  # there was a generation before this one, under this coordinator
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
        return self._phase is Phase.RUNNING and self._generation.reaction not in ("", "graceful")

    @property
    def ending(self) -> str:
        """Why the generation is being ended without haste, as far as who does not hear of it will stop all the same: a
        host that has all ranks would train on. Empty if it is not."""
        if len(self.at_work) < 2:
            return ""
        return self._ending or ("its ranks agreed to stop" if self._generation.reaction == "graceful" else "")

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts of the run, whether they have ranks or not."""
        return self._muster.roster.hosts

    @property
    def at_work(self) -> tuple[str, ...]:
        """The hosts that have ranks in this generation."""
        return self._muster.at_work

    def _stop_hosts(self, how: str, reason: str, without: str = "", rank: int | None = None) -> list[Instruction]:
        message = {"type": wire.STOP, "how": how, "reason": reason} | ({} if rank is None else {"rank": rank})
        return [Send(host, message) for host in self.at_work if host != without and host not in self._generation.over]

    # An end without a failure: the workers save at a step they agree on and leave, and another generation begins.

    def end_generation(self, reason: str) -> list[Instruction]:
        """End it so, unless its end is near anyway. It costs no budget."""
        ends = self._stop is not None or self._ending or self._generation.reacted or self._generation.over
        if self._phase is not Phase.RUNNING or ends:
            return []
        self._ending, self._generation.asked_to_stop = reason, True
        note = Note(records.GENERATION_ENDING, {"generation": self.plan.generation, "reason": reason})
        return [note, *self._stop_hosts("graceful", reason)]

    def _grow(self) -> list[Instruction]:
        if not self._muster.can_grow(self._now):
            return []
        more = [host for host in self._muster.choice(self._now) if host not in self.at_work]
        return self.end_generation(f"{' and '.join(more)} can take part")

    def _ended_as_planned(self) -> list[Instruction]:
        note = Note(records.RESTART, self._generation.as_planned_end(self._ending))
        self._ending, self._restarted = "", True
        return [note, *self._to_state(RunState.RESTARTING), *self._seek()]

    # The end of a generation, and what comes after it.

    def _conclude_if_over(self) -> list[Instruction]:
        if self._phase is not Phase.RUNNING or not self._generation.all_over:
            return []
        outcome = self._generation.outcome(stopping=self._stop is not None or bool(self._ending))
        if self._ending and self._stop is None and outcome.state is RunState.STOPPED:
            return self._ended_as_planned()
        if outcome.port and self._stop is None and self._port_tries < PORT_TRIES:
            self._port_tries += 1
            return self._make_plan(f"a port was taken: {outcome.message}", self.at_work, onward=False)
        if outcome.failure is not None and self._stop is None:
            return self._failed(outcome, outcome.failure)
        return self._end(outcome.state, outcome.message, outcome.cause)

    def _failed(self, outcome: Outcome, failure: Failure) -> list[Instruction]:
        self._ending, self._restarted = "", True
        answer = self._policy.after(failure, self._now)
        if isinstance(answer, Enough):
            state = RunState.FAULTY if answer.faulty else outcome.state
            cause = dict(outcome.cause or {"message": outcome.message, "how": "", "hint": ""})
            cause["hint"] = cause.get("hint") or answer.hint
            return self._end(state, f"{outcome.message}; {answer.why}" if answer.why else outcome.message, cause)
        self._phase, self._due = Phase.PAUSING, self._now + answer.pause_s
        return [
            Note(records.RESTART, self._generation.as_restart(outcome, failure, answer.pause_s)),
            *self._muster.blame(outcome, self._now),
            *self._to_state(RunState.RESTARTING),
            *(self._seek() if answer.pause_s == 0 else []),
        ]

    def _seek(self) -> list[Instruction]:
        """Find the hosts of the next generation."""
        self._muster.seek(self._now)
        return self._recover()

    def _recover(self) -> list[Instruction]:
        """Reach the hosts that were lost."""
        recovery = self._muster.recovery
        if self._muster.hopeless(self._now):
            text, host = recovery.told(self._now), recovery.longest_gone
            return self._end(RunState.FAILED, text, {"host": host, "message": text, "how": "unreachable", "hint": ""})
        self._phase = Phase.RECOVERING
        missing = self._muster.missing()
        self._due = self._now + recovery.try_for_s() if missing else float("inf")
        return [*map(Reach, missing), *self._plan_if_ready()]

    def _plan_if_ready(self) -> list[Instruction]:
        if self._phase is not Phase.RECOVERING:
            return []
        chosen = self._muster.next_at_work(self._now)
        return [] if chosen is None else self._make_plan("the last generation has ended", chosen, onward=True)

    def _make_plan(self, reason: str, at_work: tuple[str, ...], *, onward: bool) -> list[Instruction]:
        """The ports of the last generations are left alone: an earlier holder may be alive yet."""
        self._phase, self._due = Phase.PLANNING, float("inf")
        self._ports_before.append({rank.port for rank in self.plan.ranks if rank.port is not None})
        avoid = frozenset().union(*self._ports_before)
        fresh = self._muster.recovery.take_fresh(at_work)
        afresh = bool(fresh) or not self._generation.progressed or set(at_work) != set(self.at_work)
        newest = max(self.plan.generation, self._muster.newest_generation())
        probe = onward and self._generation.unexplained
        return [MakePlan(newest + 1, avoid, reason, onward, fresh, afresh, at_work, probe)]

    def _planned(self, plan: LaunchPlan) -> list[Instruction]:
        if self._phase is not Phase.PLANNING:
            return []
        self.plan, self._apart_since = plan, None
        self._generation = Generation(plan)
        self._muster.roster.begins([host.name for host in plan.at_work])
        self._phase, self._due = Phase.REACHING, self._now + self._connect_s
        missing = [host for host in self._muster.missing() if host in self.at_work]
        return [*map(Reach, missing)] if missing else self._start_if_ready()

    def _not_planned(self, failed: PlanFailed) -> list[Instruction]:
        if self._phase is not Phase.PLANNING:
            return []
        cause = {"message": failed.message, "hint": failed.hint, "how": "planning"}
        if failed.fatal or not self._restarted:
            return self._end(RunState.NOT_FIT, failed.message, cause)
        self._muster.recovery.give_back_fresh()
        if self._muster.can_spare(failed.hosts, self._now):
            return [Note(records.REMARK, {"text": f"{failed.message}: it is left out for now"}), *self._seek()]
        if failed.apart and (waits := self._wait_for_network(failed.message)) is not None:
            return waits
        return self._failed(Outcome(RunState.FAILED, failed.message, cause), Failure(failed.message, progressed=False))

    def _wait_for_network(self, message: str) -> list[Instruction] | None:
        """Hosts that do not reach each other are waited for as one that is lost; None once that was long enough."""
        told = self._apart_since is not None
        self._apart_since = self._now if self._apart_since is None else self._apart_since
        if self._now - self._apart_since > self._policy.spec.per:
            return None
        self._phase, self._due = Phase.PAUSING, self._now + APART_PAUSE_S
        return [] if told else [Note(records.REMARK, {"text": f"{message}; it is tried again until they do"})]

    def _tick(self) -> list[Instruction]:
        if self._phase is Phase.RUNNING:
            looked_for = [Reach(host) for host in self._muster.to_look_for(self._now)]
            return [*looked_for, *self._do(self._generation.tick(self._now))]
        if found := self._plan_if_ready():
            return found
        if self._now < self._due:
            return []
        if self._phase is Phase.PAUSING or (self._phase is Phase.REACHING and self._restarted):
            return self._seek()
        if self._phase is Phase.RECOVERING:
            return self._recover()
        missing = [host for host in self._muster.missing() if host in self.at_work]
        text = f"no agent answered within {self._connect_s:g} s on {', '.join(missing)}"
        return self._end(RunState.NOT_FIT, text, {"message": text, "how": "unreachable", "hint": CHECK})

    def _end(self, state: RunState, message: str, cause: Mapping[str, Any] | None = None) -> list[Instruction]:
        self._ended = True
        self.state = state
        return [End(state, message, cause)]

    def _to_state(self, state: RunState) -> list[Instruction]:
        before, self.state = self.state, state
        return [] if before is state else [Note(records.RUN_STATE, {"state": state.value})]

    @abstractmethod
    def _do(self, heard: Heard) -> list[Instruction]:
        """What follows from what is known of the generation."""

    @abstractmethod
    def _start_if_ready(self) -> list[Instruction]:
        """Start the ranks of the plan once every host that is at work obeys."""
