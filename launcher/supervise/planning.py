"""The plans of one run, generation after generation, and the checkpoint that each goes on from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from launcher.errors import NotFitError
from launcher.plan.build import first_at_work
from launcher.plan.build import plan as make_plan
from launcher.plan.facts import Facts
from launcher.plan.model import LaunchPlan
from launcher.supervise.core.events import MakePlan
from launcher.supervise.newest import newest_checkpoint
from launcher.supervise.order import Order

Planner = Callable[[Facts], LaunchPlan]
# A checkpoint's folder here, and the hosts that are to have it → its folder on each.
Bring = Callable[[str, Sequence[str]], Mapping[str, str]]
Look = Callable[[Sequence[str]], Facts]


class Planning:
    """Remembers the facts and where the run goes on from. No two calls at once.

    `look` gathers the facts of hosts anew, `bring` sees that hosts have a checkpoint; both may block and raise
    NotFitError. Of hosts that are not at work what was last known is kept.
    """

    def __init__(self, order: Order, look: Look, bring: Bring) -> None:
        self._order = order
        self._facts: Facts = {}
        self._look = look
        self._before: LaunchPlan | None = None
        self._bring = bring
        self._resumes = order.resumes
        self._taken_over = False  # nothing is known of the hosts, nor where on them the checkpoint is
        self._resume_dirs: Mapping[str, str] = {}

    def going_on_from(self, plan: LaunchPlan) -> None:
        """The run is at this plan already, which another coordinator had made."""
        self._resumes, self._before = plan.resumes, plan
        self._taken_over = True

    def look(self) -> Facts:
        """The facts of all hosts."""
        return self._look([host.name for host in self._order.spec.hosts])

    def first(self, examine: Callable[[Planner], LaunchPlan]) -> LaunchPlan:
        """The plan of the order's own generation: `examine` finds out what the hosts are like, and has it planned."""
        order = self._order
        everywhere = [host.name for host in order.spec.hosts]
        self._resume_dirs = self._bring(order.resume_dir, everywhere) if order.resume_dir else {}

        def plan(facts: Facts) -> LaunchPlan:
            self._facts = facts
            return self._plan(order.generation, frozenset())

        return examine(plan)

    def _plan(self, generation: int, avoid: frozenset[int], at_work: tuple[str, ...] = ()) -> LaunchPlan:
        plan = make_plan(
            self._order.spec,
            self._facts,
            run=self._order.run.name,
            generation=generation,
            avoid_ports=avoid,
            resumes=self._resumes,
            resume_dirs=self._resume_dirs,
            at_work=at_work or None,
        )
        known = {host.name: host for host in self._before.hosts} if self._before else {}
        hosts = [
            host if host.folder or host.ranks else replace(known.get(host.name, host), ranks=()) for host in plan.hosts
        ]
        self._before = replace(plan, hosts=tuple(hosts))
        return self._before

    def again(self, wanted: MakePlan) -> LaunchPlan:
        """Another generation: with what is known of the hosts if that will do, else after another look at them.

        Raises NotFitError, SpecError or RunError.
        """
        at_work = wanted.at_work or first_at_work(self._order.spec)
        if wanted.onward or self._taken_over:
            found = newest_checkpoint(self._order.run)
            self._resumes = found.name
            self._resume_dirs = self._bring(found.folder, at_work) if found.name else {}
        if not (wanted.afresh or self._taken_over):
            with contextlib.suppress(NotFitError):
                return self._plan(wanted.generation, wanted.avoid_ports, wanted.at_work)
        self._facts, self._taken_over = {**self._facts, **self._look(at_work)}, False
        with contextlib.suppress(NotFitError):
            return self._plan(wanted.generation, wanted.avoid_ports, wanted.at_work)
        # A small range of ports: one that was used lately and is free is better than none.
        return self._plan(wanted.generation, frozenset(), wanted.at_work)
