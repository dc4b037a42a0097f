"""Hosts that have to go while the run is under way: announced by their agents (SIGTERM), or asked for (`drain`). Pure.

A generation in which they are at work is ended as planned: all save at a step they agree on. The next one is begun
without them, if `restart` allows it with the hosts that are left; else the run is parked. Once the next generation is
planned, so that what they saved is where it is needed, they are let go.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Collection, Mapping
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.supervise.core.events import Instruction, LetGo, Note
from launcher.supervise.core.phases import Phase
from launcher.supervise.core.policy import Policy
from launcher.supervise.core.succession import Succession
from worker.contract import records
from worker.contract.states import RunState


class Departures(Succession, ABC):
    """Who has to go, why, and whether the run can do without them."""

    def __init__(self, plan: LaunchPlan, term: int, connect_s: float, policy: Policy | None = None) -> None:
        super().__init__(plan, term, connect_s, policy)
        self._leaving: dict[str, str] = {}  # host → why; those that have been let go, too
        self._let_go: set[str] = set()
        self._announced: set[str] = set()  # by their own agents, which have asked their ranks to stop

    @property
    def leaving(self) -> Mapping[str, str]:
        """The hosts that have to go and have not been let go yet, and why."""
        return {host: why for host, why in self._leaving.items() if host not in self._let_go}

    @property
    def doomed(self) -> Collection[str]:
        """Those of them whose agents have said so: nothing trains there any more, and they may be gone at any time."""
        return self._announced & set(self.leaving)

    @property
    def leaving_for_good(self) -> frozenset[str]:
        """The hosts that are not used any more: those that have to go, and those that have gone."""
        return self._muster.roster.left

    def objection(self, hosts: Collection[str], *, park: bool) -> tuple[str, str]:
        """Why these hosts are not to be drained, and the next step; both empty if nothing speaks against it.

        `park`: the run may be parked, if it cannot go on without them.
        """
        unknown = [host for host in hosts if host not in self.hosts]
        if unknown or not hosts:
            named = f"{', '.join(unknown)}: no host of this run is called so" if unknown else "no host was named"
            return named, f"its hosts: {', '.join(self.hosts)}"
        if gone := [host for host in hosts if host in self._let_go]:
            return f"{', '.join(gone)} has left the run already", "see: launcher status RUN"
        if self._ended or self._stop is not None:
            return "the run is ending anyway", "see: launcher status RUN"
        if not park and not self._could_go_on(without=hosts):
            wanted = "`--park` parks it, and `launcher resume RUN` goes on later, on other hosts if you like"
            return f"without {' and '.join(hosts)} the run cannot go on: {self._why_not(hosts)}", wanted
        return "", ""

    def leaves(self, host: str, why: str) -> list[Instruction]:
        """The host has to go. Told again, it is no news."""
        if self._ended or host in self._leaving or host not in self.hosts:
            return []
        self._leaving[host] = why
        self._muster.roster.leaves(host)
        self._generation.going.add(host)
        note = Note(records.HOST_LEAVING, {"host": host, "why": why})
        if self._stop is not None:
            return [note]
        if self._phase is Phase.RUNNING:
            return [note, *(self._end_for_them() if host in self.at_work else self._let_them_go())]
        if not self._could_go_on():
            return [note, *self._park()]
        if self._phase is Phase.REACHING and host in self.at_work:
            self._restarted = True
            return [note, *self._seek()]
        return [note, *self._plan_if_ready()]

    def _hear_of_going(self, host: str, event: Mapping[str, Any]) -> list[Instruction]:
        """An agent says that its host has to go: now, or before another one took its place there."""
        generation = int(event.get("generation") or 0)
        idle = host not in self.at_work and not self._muster.has_begun(host, generation + 1)
        if not idle and generation != self.plan.generation:
            return []
        self._announced.add(host)
        return self.leaves(host, str(event.get("why")))

    def recall_departures(self, leaving: Mapping[str, str]) -> None:
        """Who had to go by what an earlier coordinator has written down."""
        for host, why in leaving.items():
            if host in self.hosts:
                self._leaving[host] = why
                self._muster.roster.leaves(host)
                self._generation.going.add(host)

    def _end_for_them(self) -> list[Instruction]:
        """As `end_generation`, but also if some hosts are over: their ranks may have heard of it from their peers."""
        reason, begun = self._told(), self._ending
        self._ending, self._generation.asked_to_stop = reason, True
        if begun or self._generation.reaction not in ("", "graceful"):
            return []
        note = Note(records.GENERATION_ENDING, {"generation": self.plan.generation, "reason": reason})
        return [note, *self._stop_hosts("graceful", reason)]

    def _ended_as_planned(self) -> list[Instruction]:
        return super()._ended_as_planned() if self._could_go_on() else self._park()

    def _recover(self) -> list[Instruction]:
        return super()._recover() if self._could_go_on() else self._park()

    def _planned(self, plan: LaunchPlan) -> list[Instruction]:
        late = {host.name for host in plan.at_work} & set(self.leaving)
        if late and self._phase is Phase.PLANNING:  # they have to go since it was begun
            self._muster.recovery.give_back_fresh()
            return self._seek()
        instructions = super()._planned(plan)
        self._generation.going.update(self._leaving)
        return [*instructions, *self._let_them_go()]

    def _let_them_go(self) -> list[Instruction]:
        done = [host for host in self.leaving if host not in self.at_work]
        self._let_go.update(done)
        return [LetGo(host) for host in done]

    def _park(self) -> list[Instruction]:
        gone = self._muster.roster.left
        return self._end(RunState.PARKED, f"{self._told()}, and the run cannot go on: {self._why_not(gone)}")

    def _could_go_on(self, without: Collection[str] = ()) -> bool:
        """Whether the hosts that stay would be enough, if all of them were there."""
        roster = self._muster.roster
        if not without and not self._leaving:
            return True
        return roster.choose([host for host in roster.hosts if host not in without]) is not None

    def _told(self) -> str:
        here = {host: why for host, why in self._leaving.items() if host in self.at_work}
        return "; ".join(f"{host} has to go ({why})" for host, why in (here or self._leaving).items())

    def _why_not(self, without: Collection[str]) -> str:
        gone = {*without, *self._leaving}
        left = sum(host not in gone for host in self.hosts)
        if not left:
            return "no host is left"
        least = self._policy.spec.min_workers
        if least is None:
            return "it needs all of its hosts, as restart.min_workers is not set"
        return f"too few workers would be left, restart.min_workers is {least}"
