"""The run's folder on the coordinators' machine: journal, plans, what has come home; and planning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launcher.plan.model import LaunchPlan
from launcher.runs.told import told_by_coordinator
from launcher.supervise.core.events import MakePlan, PlanFailed, PlanMade
from launcher.supervise.newest import best_first
from launcher.supervise.order import UnderWay
from launcher.supervise.takeover import under_way
from tests.sim.agent import show
from tests.sim.net import HOME
from tests.unit.machine_driver import make_plan
from worker.contract import records
from worker.contract.layout import checkpoint_name, parse_checkpoint_name
from worker.contract.records import Record

if TYPE_CHECKING:
    from tests.sim.coordinator import SimCoordinator
    from tests.sim.lab import Lab


class Home:
    """What outlives coordinators."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.journal: list[Record] = []
        workers = lab.settings.workers
        first = list(workers)[: len(workers) - lab.settings.restart.spares]
        self.plans: dict[int, LaunchPlan] = {1: make_plan(workers, at_work=first)}
        self.checkpoints: set[tuple[int, int]] = set()  # (step, generation)
        self._first = 1
        self.resumes = ""

    @property
    def plan(self) -> LaunchPlan:
        """The newest that was begun; else the first one, which a `resume` makes anew."""
        begun = [r["generation"] for r in self.journal if r["type"] == records.GENERATION_STARTED]
        return self.plans[max(begun, default=1)]

    @property
    def begun(self) -> bool:
        return any(r["type"] == records.GENERATION_STARTED for r in self.journal)

    @property
    def end(self) -> Record | None:
        """The end of the run, if it is written down and nobody has begun to go on with it."""
        last = [r for r in self.journal if r["type"] in (records.RUN_ENDED, records.COORDINATOR_STARTED)][-1:]
        return last[0] if last and last[0]["type"] == records.RUN_ENDED else None

    def note(self, kind: str, **fields: Any) -> None:
        record = {"seq": len(self.journal) + 1, "t": self.lab.world.now, "type": kind, **fields}
        self.lab.world.tell(f"home writes {show(record)}")
        self.journal.append(record)
        if kind == records.RESTART:
            self.lab.checks.restarted()

    def lost_links(self) -> set[str]:
        lost: set[str] = set()
        for record in self.journal:
            if record["type"] == records.LINK_LOST:
                lost.add(record["host"])
            elif record["type"] == records.LINK_BACK:
                lost.discard(record["host"])
            elif record["type"] == records.COORDINATOR_STARTED:
                lost.clear()
        return lost

    def next_term(self) -> int:
        return 1 + max((int(r.get("term", 0)) for r in self.journal), default=0)

    def under_way(self) -> UnderWay | None:
        return under_way(self.journal, self.lab.world.now) if self.begun else None

    # Planning.

    def make_plan(self, coordinator: SimCoordinator, wanted: MakePlan) -> None:
        world = self.lab.world
        world.tell(f"{coordinator.name} plans generation {wanted.generation}, onward={wanted.onward}")
        world.after(world.between(0.1, 2.5), lambda: coordinator.planned(self._answer(wanted)))

    def _answer(self, wanted: MakePlan) -> PlanMade | PlanFailed:
        """Each host that is to be at work is needed: to look at it, to bring its checkpoints home, and others there."""
        lab = self.lab
        there = [host for host in lab.hosts.values() if host.ready() and lab.net.passes(HOME, host.name)]
        away = frozenset(wanted.at_work) - {host.name for host in there}
        if (away and (wanted.onward or wanted.afresh)) or lab.world.chance(lab.settings.planning_fails):
            told = f"{', '.join(sorted(away)) or 'a host'} could not be looked at"
            return PlanFailed(told, "", fatal=not wanted.onward, hosts=away)
        if wanted.onward:
            for host in there:
                self.checkpoints |= {(step, _generation(name)) for name, step in host.disk.published.items()}
            views = told_by_coordinator(self.journal).generations
            found = best_first(self.checkpoints, {n: view.resumes for n, view in views.items()})
            self.resumes = checkpoint_name(found[0][1], found[0][0]) if found else ""
        return PlanMade(make_plan(lab.settings.workers, wanted.generation, self.resumes, wanted.at_work))


def _generation(name: str) -> int:
    parsed = parse_checkpoint_name(name)
    assert parsed is not None
    return parsed[0]
