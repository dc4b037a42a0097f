"""`launcher down`: stop a run from any terminal."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.options import RunName
from worker.contract.states import ExitCode

if TYPE_CHECKING:
    from launcher.runs.folder import RunFolder


def down(
    run_name: RunName = None,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for a checkpoint.")] = False,
) -> int:
    """Stop a run: its workers save a checkpoint and leave; returns when nothing of it is alive.

    Without a name it stops the one run that is alive, and refuses if there are several. Of a run that is over it ends
    what `keep_warm` has left of it.

    Example:  launcher down fashion-cnn
    """
    from launcher.runs import listing
    from launcher.runs.alive import coordinates
    from launcher.supervise.stop import stop

    run = listing.find(run_name, listing.known_folders(os.environ), for_reading=False)
    how = "now" if now else "graceful"
    if not coordinates(run):
        if hosts := _end_kept(run):
            typer.echo(f"{run.name} is over; {', '.join(hosts)}: not kept warm any more.")
            return int(ExitCode.TRAINED)
        typer.echo(f"The coordinator of {run.name} is dead; asking the agents themselves.", err=True)
    if not stop(run, how, "down"):
        return _stop_far(run, how)
    typer.echo(f"{run.name}: stopping" + ("" if now else ", a checkpoint is saved first") + " …")
    return _wait(run)


def _end_kept(run: RunFolder) -> list[str]:
    """End what the run has left warm, here and on its other machines; the hosts where there was something."""
    import sys

    from launcher.runs import processes
    from launcher.supervise import abroad
    from launcher.view.waiting import Waiting

    here = [process.host for process in processes.kept_of(run.name) if processes.kill(process)]
    with Waiting(sys.stderr) as waiting:
        return sorted({*here, *abroad.end_kept(run, waiting)})


def _stop_far(run: RunFolder, how: str) -> int:
    """Without a coordinator, what is on other machines has to be asked there; then its files come home."""
    import sys

    from launcher.cli.fetch import fetch_hosts
    from launcher.supervise import abroad
    from launcher.view.waiting import Waiting

    with Waiting(sys.stderr) as waiting:
        there, failed = abroad.stop_agents(run, how, "down", waiting)
        for host, why in failed.items():
            typer.echo(f"{host} could not be asked: {why}", err=True)
        if not there:
            if not failed:
                typer.echo(f"Nothing of {run.name} is alive.")
            return int(ExitCode.NOT_FIT if failed else ExitCode.TRAINED)
        hosts = [host for host in abroad.far_hosts(run) if host.name in there]
        with abroad.reached(run, hosts, waiting) as made:
            fetch_hosts(abroad.sources(run, hosts, made), sys.stdout, copies=abroad.copies(run))
    typer.echo(f"{run.name}: stopped on {', '.join(there)}. Go on from its checkpoint: launcher resume {run.name}")
    return int(ExitCode.NOT_FIT if failed else ExitCode.TRAINED)


def _wait(run: RunFolder) -> int:
    """Until neither coordinator nor agent is there. Ctrl-C leaves; the stop goes on."""
    from launcher.runs import alive
    from launcher.runs.read import read_run

    try:
        while alive.anything(run):
            time.sleep(0.05)
    except KeyboardInterrupt:
        typer.echo(f"Left; the run goes on stopping. See: launcher status {run.name}")
        return int(ExitCode.INTERRUPTED)
    view = read_run(run)
    typer.echo(f"{run.name}: {view.state}. Go on from its checkpoint: launcher resume {run.name}")
    return int(ExitCode.TRAINED)
