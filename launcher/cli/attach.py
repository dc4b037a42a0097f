"""`launcher attach`: show a run that goes on without a terminal."""

from __future__ import annotations

import os

import typer

from launcher.cli.options import Plain, RunName, Verbose


def attach(run_name: RunName = None, plain: Plain = False, verbose: Verbose = False) -> int:
    """Show a run until it ends. Ctrl-C leaves the view; the run goes on.

    Example:  launcher attach fashion-cnn
    """
    from launcher.cli.follow import follow
    from launcher.runs import alive, listing
    from launcher.runs.read import read_run
    from worker.contract.states import RUN_ALIVE, RUN_RESUMABLE

    run = listing.find(run_name, listing.known_folders(os.environ), for_reading=True)
    view = read_run(run)
    if view.state in RUN_ALIVE and not alive.coordinates(run):
        typer.echo(
            f"The coordinator of {run.name} is gone. Taking a run over in mid-flight is not available yet: training "
            f"goes on under its lease until it is done.\n"
            f"  end it: launcher down {run.name}   go on from its checkpoint: launcher resume {run.name}",
            err=True,
        )
    elif view.state in RUN_RESUMABLE:
        typer.echo(f"{run.name} has ended. Go on from its checkpoint: launcher resume {run.name}", err=True)
    return follow(run, plain=plain, verbose=verbose, owns=False)
