"""The machines of a run that another coordinator has left, taken as they are: nothing is brought to them."""

from __future__ import annotations

import contextlib
from collections.abc import Container

from launcher.errors import NotFitError
from launcher.plan.model import LaunchPlan
from launcher.stage import kept
from launcher.supervise.away import Fleet, StageHere, planner
from launcher.supervise.foreground import Front
from launcher.supervise.order import Order, Prepared
from launcher.supervise.planning import Planning


def take_over(order: Order, front: Front, stage_here: StageHere, plan: LaunchPlan, behind: Container[str]) -> Prepared:
    """The machines of a run that is at `plan`. Something is brought to them only if a next generation asks for it; what
    `activate:` gives is asked of the hosts `behind`, whose ranks may have to be started yet.

    A machine that cannot be reached is told, and is a lost one. Raises NotFitError if none can be reached, RunError if
    it is not known what was brought to them.
    """
    fleet = Fleet(order, front)
    fleet.recall(kept.read(order.run))
    there = fleet.reach(all_of_them=False)
    for name in sorted(there & fleet.inactive):
        if name in behind:
            with contextlib.suppress(NotFitError):  # such a host counts as lost when its ranks are to be started
                fleet.make_ready(stage_here, only={name})
    planning = Planning(order, fleet.facts, fleet.bring_checkpoint)
    planning.going_on_from(plan)
    again = planner(fleet, planning, stage_here)
    return Prepared(order, fleet.hosts, plan, again, fleet.activated, fleet.clocks, fleet.gathering)
