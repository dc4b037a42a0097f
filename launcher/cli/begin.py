"""Begin a prepared run and show it: the common end of `up` and `resume`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from worker.contract.states import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.runs.folder import RunFolder
    from launcher.runs.model import RunView
    from launcher.spec.model import ClusterSpec
    from launcher.supervise.order import Order


def begin_and_show(order: Order, *, detach: bool, plain: bool, verbose: bool) -> int:
    """Start the coordinator; then follow the run, or say how to come back."""
    from launcher.cli.follow import follow

    begin(order)
    run = order.run
    if detach:
        typer.echo(run.name)
        typer.echo(f"see it: launcher attach {run.name}\nend it: launcher down {run.name}", err=True)
        return int(ExitCode.TRAINED)
    return follow(run, plain=plain, verbose=verbose, owns=True)


def begin(order: Order) -> None:
    """Start the coordinator, showing what it does until it has the run in hand. Raises as `launch.begin` does."""
    from launcher.supervise import launch
    from launcher.view.waiting import Waiting

    _flush()
    with Waiting(sys.stderr) as waiting:
        launch.begin(order, draw_report, waiting)


def take_over(order: Order) -> None:
    """As `begin`, for a run whose coordinator is dead. Raises as `launch.take_over` does."""
    from launcher.supervise import launch
    from launcher.view.waiting import Waiting

    _flush()
    with Waiting(sys.stderr) as waiting:
        launch.take_over(order, draw_report, waiting)


def goes_on(run: RunFolder, spec: ClusterSpec, secrets: Mapping[str, str], view: RunView) -> Order:
    """The order by which a run goes on from its newest whole checkpoint, as its next generation; it is told which."""
    from launcher.supervise.newest import newest_checkpoint
    from launcher.supervise.order import Order

    found = newest_checkpoint(run)
    for name, problems in found.passed_over:
        typer.echo(f"passed over the checkpoint {name}: {problems}", err=True)
    if found.name:
        typer.echo(f"{run.name}: going on from {found.name}", err=True)
    elif spec.train is not None:
        typer.echo(f"{run.name} has no whole checkpoint: starting from the beginning", err=True)
    return Order(run, spec, secrets, view.generation + 1, found.name, found.folder, after_term=view.term)


def _flush() -> None:
    # The coordinator is forked off: what is not written yet would be written twice.
    sys.stdout.flush()
    sys.stderr.flush()


def draw_report(run: RunFolder) -> None:
    """The report of a run that is over, written by the coordinator before it goes. Its failure harms nothing."""
    from launcher.errors import LauncherError
    from launcher.runs.read import read_run
    from launcher.view.report import write_report

    try:
        write_report(run, read_run(run, book=True))
    except (LauncherError, OSError) as error:
        print(f"the report could not be written: {error}", file=sys.stderr)
