"""The plans of one run, generation after generation, and the checkpoint that each goes on from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from launcher.errors import NotFitError
from launcher.plan.build import plan as make_plan
from launcher.plan.facts import Facts
from launcher.plan.model import LaunchPlan
from launcher.supervise.events import MakePlan
from launcher.supervise.newest import newest_checkpoint
from launcher.supervise.order import Order

Planner = Callable[[Facts], LaunchPlan]
Bring = Callable[[str], Mapping[str, str]]  # a checkpoint's folder here → its folder on each host


class Planning:
    """Remembers the facts and where the run goes on from. No two calls at once.

    `look` gathers the facts anew, `bring` sees that every host has a checkpoint; both may block and raise NotFitError.
    """

    def __init__(self, order: Order, look: Callable[[], Facts], bring: Bring) -> None:
        self._order = order
        self._facts: Facts = {}
        self.look = look
        self._bring = bring
        self._resumes = order.resumes
        self._taken_over = False  # nothing is known of the hosts, nor where on them the checkpoint is
        self._resume_dirs: Mapping[str, str] = {}

    def going_on_from(self, plan: LaunchPlan) -> None:
        """The run is at this plan already, which another coordinator had made."""
        self._resumes = plan.resumes
        self._taken_over = True

    def first(self, examine: Callable[[Planner], LaunchPlan]) -> LaunchPlan:
        """The plan of the order's own generation: `examine` finds out what the hosts are like, and has it planned."""
        order = self._order
        self._resume_dirs = self._bring(order.resume_dir) if order.resume_dir else {}

        def plan(facts: Facts) -> LaunchPlan:
            self._facts = facts
            return self._plan(order.generation, frozenset())

        return examine(plan)

    def _plan(self, generation: int, avoid: frozenset[int], at_work: tuple[str, ...] = ()) -> LaunchPlan:
        return make_plan(
            self._order.spec,
            self._facts,
            run=self._order.run.name,
            generation=generation,
            avoid_ports=avoid,
            resumes=self._resumes,
            resume_dirs=self._resume_dirs,
            at_work=at_work or None,
        )

    def again(self, wanted: MakePlan) -> LaunchPlan:
        """Another generation: with what is known of the hosts if that will do, else after another look at them.

        Raises NotFitError, SpecError or RunError.
        """
        if wanted.onward or self._taken_over:
            found = newest_checkpoint(self._order.run)
            self._resumes = found.name
            self._resume_dirs = self._bring(found.folder) if found.name else {}
        if not (wanted.afresh or self._taken_over):
            with contextlib.suppress(NotFitError):
                return self._plan(wanted.generation, wanted.avoid_ports, wanted.at_work)
        self._facts, self._taken_over = self.look(), False
        with contextlib.suppress(NotFitError):
            return self._plan(wanted.generation, wanted.avoid_ports, wanted.at_work)
        # A small range of ports: one that was used lately and is free is better than none.
        return self._plan(wanted.generation, frozenset(), wanted.at_work)
