"""Taking a run in hand whose coordinator is dead: its newest plan, what had been asked of it, what had failed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from launcher.errors import RunError
from launcher.hosts.base import Host
from launcher.hosts.local import LocalHost
from launcher.plan.json_form import from_json
from launcher.plan.model import LaunchPlan
from launcher.runs.fields import integer, number, text
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read
from launcher.supervise.events import StopHow
from launcher.supervise.order import Order, Prepared, UnderWay
from launcher.supervise.prepare import planning_here
from worker.contract import records
from worker.contract.records import Record


def newest_plan(run: RunFolder) -> LaunchPlan:
    """The plan of the generation that was begun last. Raises RunError if none was, or if it cannot be read."""
    begun = [integer(r, "generation") or 0 for r in read(run.journal) if r["type"] == records.GENERATION_STARTED]
    if not begun:
        raise RunError(
            f"{run.name} had not started any worker when its coordinator went",
            hint=f"launcher resume {run.name} starts it from the beginning",
        )
    path = run.plan(max(begun))
    try:
        return from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}", hint="without it the run can only be resumed") from error


def prepare(order: Order, plan: LaunchPlan) -> Prepared:
    """The run as another coordinator has left it, on this machine alone. Nothing is staged: what was, is used on."""
    run = order.run
    codes = {host.name: host.code for host in plan.hosts if host.code}
    sources = {rank.host: rank.cwd for rank in plan.ranks if rank.cwd}

    planning = planning_here(order, codes, sources)
    planning.going_on_from(plan)
    hosts: dict[str, Host] = {host.name: LocalHost(host.name) for host in plan.hosts}
    return Prepared(order, hosts, plan, planning.again, under_way=under_way(read(run.journal), time.time()))


def under_way(events: Sequence[Record], now: float) -> UnderWay:
    """What the journal says that had been asked, and what had failed. Pure."""
    stop: StopHow | None = None
    failures: list[tuple[float, bool, str]] = []
    ending = ""
    newest = max((integer(r, "generation") or 0 for r in events if r["type"] == records.GENERATION_STARTED), default=0)
    for record in events:
        if record["type"] in (records.RUN_CREATED, records.RUN_ENDED):
            stop = None
        elif record["type"] == records.STOP_REQUESTED:
            stop = "now" if text(record, "how") == "now" else "graceful"
        elif record["type"] == records.GENERATION_ENDING and integer(record, "generation") == newest:
            ending = text(record, "reason")
        elif record["type"] == records.RESTART and integer(record, "generation") != newest:
            # That of the newest generation is found again from what the agents tell.
            ago = max(0.0, now - (number(record, "t") or now))
            if not record.get("planned"):
                failures.append((ago, bool(record.get("progressed", True)), text(record, "host")))
    return UnderWay(stop, tuple(failures), ending)
