"""Taking a run in hand whose coordinator is dead: its newest plan, what had been asked of it, what had failed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launcher.errors import RunError
from launcher.hosts.base import Host
from launcher.hosts.local import LocalHost
from launcher.plan.json_form import from_json
from launcher.plan.model import LaunchPlan
from launcher.runs.fields import integer, number, text
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read
from launcher.runs.told import told_by_coordinator
from launcher.supervise.core.events import StopHow
from launcher.supervise.foreground import Front
from launcher.supervise.inherited import has_started
from launcher.supervise.order import Order, Prepared, UnderWay
from launcher.supervise.prepare import planning_here, stage_here
from worker.contract import records
from worker.contract.records import Record


def of_this_life(events: Sequence[Record]) -> Sequence[Record]:
    """The records since the run was begun, or begun again after an end that was written down. Pure."""
    ends = [place for place, record in enumerate(events) if record["type"] == records.RUN_ENDED]
    return events[ends[-1] + 1 :] if ends else events


def newest_begun(events: Sequence[Record]) -> int:
    """The generation that was begun last in this life of the run; 0 if none was. Pure."""
    begun = (integer(r, "generation") or 0 for r in of_this_life(events) if r["type"] == records.GENERATION_STARTED)
    return max(begun, default=0)


def newest_plan(run: RunFolder) -> LaunchPlan:
    """The plan of the generation that was begun last. Raises RunError if none was, or if it cannot be read."""
    begun = newest_begun(read(run.journal))
    if not begun:
        raise RunError(
            f"{run.name} had not started any worker when its coordinator went",
            hint=f"launcher resume {run.name} begins it again",
        )
    path = run.plan(begun)
    try:
        return from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}", hint="without it the run can only be resumed") from error


def had_parked(run: RunFolder) -> bool:
    """Whether a lease had run out already when the newest coordinator came. By the hosts' own clocks, set right."""
    events = read(run.journal)
    began = max((number(r, "t") or 0.0 for r in events if r["type"] == records.COORDINATOR_STARTED), default=0.0)
    ahead = told_by_coordinator(events).clocks
    hosts = [path.name for path in run.hosts.iterdir()] if run.hosts.is_dir() else []
    return any(
        record["type"] == records.LEASE_ENDED and (number(record, "t") or 0.0) - ahead.get(host, 0.0) < began
        for host in hosts
        for record in of_newest_generation(read(Path(run.host(host).journal)))
    )


def of_newest_generation(events: Sequence[Record]) -> Sequence[Record]:
    """A host's records since its ranks were started last. Pure."""
    started = [place for place, record in enumerate(events) if record["type"] == records.RANK_STARTED]
    return events[started[-1] :] if started else ()


def prepare(order: Order, plan: LaunchPlan, front: Front) -> Prepared:
    """The run as another coordinator has left it. Nothing is staged: what was, is used on.

    Raises NotFitError if none of its hosts can be reached, RunError if its folder does not say what has to be known.
    """
    run = order.run
    events = read(run.journal)
    left = under_way(events, time.time())
    if not order.spec.plain:
        from launcher.supervise import regained  # paramiko and all that: not for a run on this machine alone

        behind = {host.name for host in plan.hosts if host.ranks and not has_started(run, host.name, plan.generation)}
        return replace(regained.take_over(order, front, stage_here, plan, behind), under_way=left)
    codes = {host.name: host.code for host in plan.hosts if host.code}
    sources = {rank.host: rank.cwd for rank in plan.ranks if rank.cwd}

    planning = planning_here(order, codes, sources)
    planning.going_on_from(plan)
    hosts: dict[str, Host] = {host.name: LocalHost(host.name) for host in plan.hosts}
    return Prepared(order, hosts, plan, planning.again, under_way=left)


def under_way(events: Sequence[Record], now: float) -> UnderWay:
    """What the journal says that had been asked, and what had failed. Pure."""
    stop: StopHow | None = None
    failures: list[tuple[float, bool, str]] = []
    ending = ""
    leaving: dict[str, str] = {}
    newest = newest_begun(events)
    for record in of_this_life(events):
        if record["type"] == records.STOP_REQUESTED:
            stop = "now" if text(record, "how") == "now" else "graceful"
        elif record["type"] == records.HOST_LEAVING:
            leaving[text(record, "host")] = text(record, "why")
        elif record["type"] == records.GENERATION_ENDING and integer(record, "generation") == newest:
            ending = text(record, "reason")
        elif record["type"] == records.RESTART and integer(record, "generation") != newest:
            # That of the newest generation is found again from what the agents tell.
            ago = max(0.0, now - (number(record, "t") or now))
            if not record.get("planned"):
                failures.append((ago, bool(record.get("progressed", True)), text(record, "host")))
    return UnderWay(stop, tuple(failures), ending, leaving)
