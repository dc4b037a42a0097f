"""`launcher attach`: show a run that goes on without a terminal, and take it in hand if its coordinator is dead."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.options import Plain, RunName, Verbose

if TYPE_CHECKING:
    from launcher.runs.folder import RunFolder
    from launcher.runs.model import RunView


def attach(
    run_name: RunName = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="End a coordinator that lives, and go on in its place.")
    ] = False,
    look: Annotated[bool, typer.Option("--look", help="Only look, even if its coordinator is dead.")] = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Show a run until it ends. Ctrl-C leaves the view; the run goes on.

    A run whose coordinator is dead is taken in hand first: it is watched, restarted and brought home again. With
    `--take-over` that is done to one that lives, too: when it is frozen, or its machine is about to go down.

    Example:  launcher attach fashion-cnn
    """
    from launcher.cli.follow import follow
    from launcher.errors import UsageError
    from launcher.runs import alive, listing
    from launcher.runs.read import read_run
    from worker.contract.states import RUN_RESUMABLE

    if take_over and look:
        raise UsageError("--take-over and --look are opposites", hint="give one of them")
    run = listing.find(run_name, listing.known_folders(os.environ), for_reading=not take_over)
    if take_over and alive.coordinates(run):
        from launcher.supervise.control import end_coordinator

        end_coordinator(run)
    view = read_run(run)
    if not look and view.by_agents and view.generation and not alive.coordinates(run):
        _take_in_hand(run, view)
    elif view.state in RUN_RESUMABLE:
        typer.echo(f"{run.name} has ended. Go on from its checkpoint: launcher resume {run.name}", err=True)
    return follow(run, plain=plain, verbose=verbose, owns=False)


def _take_in_hand(run: RunFolder, view: RunView) -> None:
    """Start another coordinator; if that cannot be, say why, and that only a view follows."""
    from launcher.cli.begin import draw_report
    from launcher.errors import LauncherError
    from launcher.supervise import launch
    from launcher.supervise.about import load_again, read_about
    from launcher.supervise.order import Order
    from launcher.supervise.prepare import find_secrets
    from launcher.view.waiting import Waiting

    try:
        spec = load_again(run, read_about(run)["overrides"])
        if not spec.plain:
            typer.echo(
                f"The coordinator of {run.name} is gone. Taking over a run on other machines is not available yet: "
                f"training goes on under its lease until it is done.\n"
                f"  end it: launcher down {run.name}   bring its files home: launcher fetch {run.name}",
                err=True,
            )
            return
        order = Order(run, spec, find_secrets(spec, os.environ), view.generation)
        sys.stdout.flush()
        sys.stderr.flush()
        with Waiting(sys.stderr) as waiting:
            launch.take_over(order, draw_report, waiting)
        typer.echo(f"The coordinator of {run.name} was gone; another one has taken the run in hand.", err=True)
    except LauncherError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        typer.echo(f"{run.name} is only looked at: {error.message}{hint}", err=True)
