"""Begin a prepared run and show it: the common end of `up` and `resume`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from worker.contract.states import ExitCode

if TYPE_CHECKING:
    from launcher.runs.folder import RunFolder
    from launcher.supervise.order import Order


def begin_and_show(order: Order, *, detach: bool, plain: bool, verbose: bool) -> int:
    """Start the coordinator; then follow the run, or say how to come back."""
    from launcher.cli.follow import follow
    from launcher.supervise import launch
    from launcher.view.waiting import Waiting

    sys.stdout.flush()
    sys.stderr.flush()
    with Waiting(sys.stderr) as waiting:
        launch.begin(order, draw_report, waiting)
    run = order.run
    if detach:
        typer.echo(run.name)
        typer.echo(f"see it: launcher attach {run.name}\nend it: launcher down {run.name}", err=True)
        return int(ExitCode.TRAINED)
    return follow(run, plain=plain, verbose=verbose, owns=True)


def draw_report(run: RunFolder) -> None:
    """The report of a run that is over, written by the coordinator before it goes. Its failure harms nothing."""
    from launcher.errors import LauncherError
    from launcher.runs.read import read_run
    from launcher.view.report import write_report

    try:
        write_report(run, read_run(run, book=True))
    except (LauncherError, OSError) as error:
        print(f"the report could not be written: {error}", file=sys.stderr)
