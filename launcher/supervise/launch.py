"""From an order to a running coordinator: fork, prepare, take the run in hand."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.errors import LauncherError, RunError
from launcher.plan.json_form import to_json
from launcher.plan.model import LaunchPlan
from launcher.runs.fields import integer
from launcher.runs.folder import RunFolder
from launcher.runs.journal import Journal, read
from launcher.runs.whole import write_whole
from launcher.supervise import control, daemon, takeover
from launcher.supervise.clocks import Clocks, as_record, of_journal
from launcher.supervise.coordinator import Coordinator
from launcher.supervise.core.events import MakePlan
from launcher.supervise.foreground import Foreground, Front
from launcher.supervise.hooks import Hooks
from launcher.supervise.order import Order, Prepared
from launcher.supervise.patient import PatientJournal
from launcher.supervise.prepare import prepare
from worker.contract import records
from worker.contract.states import EXIT_CODE_OF, RunState

WhenOver = Callable[[RunFolder], None]


class NotStartedError(RunError):
    """The coordinator ended without a word, or another one has the run: its folder tells more."""


def take_over(order: Order, when_over: WhenOver, front: Front) -> None:
    """Take in hand a run whose coordinator is dead, at the generation that it has come to; else as `begin`. When it
    cannot be done nothing has been changed, and nothing is written down."""
    plan = takeover.newest_plan(order.run)
    _start(order, when_over, front, lambda foreground: takeover.prepare(order, plan, foreground), ends_it=False)


def begin(order: Order, when_over: WhenOver, front: Front) -> None:
    """Start the coordinator in a session of its own; returns once it has the run in hand.

    It prepares the run first, telling `front` what it does, and asking it for passphrases. `when_over` is called in the
    coordinator after the run's end is written down. Raises NotStartedError; NotFitError, SpecError or UsageError of the
    preparation, and nothing has been started then.
    """
    _start(order, when_over, front, lambda foreground: prepare(order, foreground))


def _start(
    order: Order, when_over: WhenOver, front: Front, make: Callable[[Foreground], Prepared], *, ends_it: bool = True
) -> None:
    """`ends_it`: whether a preparation that fails is the run's end."""
    run = order.run
    hooks = Hooks(run, order.spec.coordinator)

    def body(foreground: Foreground) -> None:
        listener = control.bind(run)
        if listener is None:
            return
        with listener:
            if order.after_term is not None and _newest_term(run) > order.after_term:
                return
            try:
                prepared = make(foreground)
            except LauncherError as error:
                if foreground.fail(error):
                    return
                if ends_it:
                    _write_failure(order, Journal(run.journal, hooks.happened), error)
                    hooks.finish()
                else:
                    print(f"the run could not be taken over: {error.message}", flush=True)
                return
            journal = Journal(run.journal, hooks.happened)
            term = 1 + _newest_term(run)
            _write_opening(prepared, journal, term)
            foreground.ready()
            patient = PatientJournal(journal, run.reserve)
            try:
                end = _coordinator(prepared, listener, patient, term, hooks).run()
                if end is not None:
                    when_over(run)
                for text in hooks.finish():
                    if end is not None:  # else the journal is another coordinator's
                        patient.append(records.REMARK, text=text)
            finally:
                patient.close()

    if not daemon.start(body, run.coordinator_log, front):
        raise NotStartedError(
            f"the coordinator of {run.name} did not start: another one has the run, or it failed",
            hint=f"see {run.coordinator_log}, or `launcher attach {run.name}`",
        )


def _newest_term(run: RunFolder) -> int:
    return max((integer(record, "term") or 0 for record in read(run.journal)), default=0)


def _coordinator(prepared: Prepared, listener: Any, journal: PatientJournal, term: int, hooks: Hooks) -> Coordinator:
    order = prepared.order

    def replan(wanted: MakePlan) -> LaunchPlan:
        plan = prepared.plan_again(wanted)
        _write_plan(order.run, plan)
        return plan

    remote = frozenset(name for name, host in prepared.hosts.items() if host.remote)
    offsets = {**of_journal(read(order.run.journal)), **prepared.offsets}
    return Coordinator(
        order.run,
        order.spec,
        prepared.plan,
        prepared.hosts,
        replan=replan,
        under_way=prepared.under_way,
        activated=prepared.activated,
        clocks=Clocks(offsets, remote),
        gathering=prepared.gathering,
        secrets=order.secrets,
        listener=listener,
        journal=journal,
        term=term,
        remarks=hooks.remarks,
    )


def _write_opening(prepared: Prepared, journal: Journal, term: int) -> None:
    run, plan = prepared.order.run, prepared.plan
    if plan.generation == 1 and prepared.under_way is None:
        _write_created(prepared.order, journal, [host.name for host in plan.hosts], len(plan.ranks))
    journal.append(
        records.COORDINATOR_STARTED,
        pid=os.getpid(),
        start_time=process_start_time(os.getpid()),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        term=term,
        remote=[host.name for host in plan.hosts if not host.local],
        took={name: round(seconds, 3) for name, seconds in prepared.took.items()},
        clocks={host: round(ahead, 3) for host, ahead in prepared.clocks.items()},
        offsets=as_record(prepared.offsets),
    )
    if prepared.clocks:
        from launcher.check.groups.clock import difference  # not for a run on this machine alone

        for host, ahead in prepared.clocks.items():
            text = f"the clock of {host} is {difference(ahead)} from this machine's: times are told by this machine's"
            journal.append(records.REMARK, text=text)
    if prepared.under_way is None:
        _write_plan(run, plan)


def _write_created(order: Order, journal: Journal, hosts: list[str], workers: int | None) -> None:
    journal.append(
        records.RUN_CREATED,
        run=order.run.name,
        spec=order.spec.path,
        hosts=hosts,
        workers=workers,
        epochs=order.spec.train.epochs if order.spec.train else None,
        launched_at=json.loads(order.run.about.read_text())["launched_at"],
    )


def _write_failure(order: Order, journal: Journal, error: LauncherError) -> None:
    """Whoever started the run has gone away before it failed: its journal keeps why."""
    if order.generation == 1:
        _write_created(order, journal, [host.name for host in order.spec.hosts], None)
    journal.append(records.CAUSE, message=error.message, hint=error.hint, how="preparing")
    state = RunState.NOT_FIT
    journal.append(
        records.RUN_ENDED, state=state.value, exit_code=int(EXIT_CODE_OF[state]), message=error.message, model=""
    )


def _write_plan(run: RunFolder, plan: LaunchPlan) -> None:
    write_whole(run.plan(plan.generation), json.dumps(to_json(plan), indent=2) + "\n")


def process_start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat, in clock ticks since boot: with the pid it names a process of this boot."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])


def command_started_at() -> float:
    """When this process began, in seconds since 1970: what a person has waited from."""
    ticks = process_start_time(os.getpid())
    since_boot = ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
