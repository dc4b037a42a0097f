"""`launcher drain`: let a run go on without some of its hosts."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from worker.contract.states import ExitCode, RunState

if TYPE_CHECKING:
    from launcher.runs.folder import RunFolder
    from launcher.supervise.drain import Drained


def drain(
    run_name: Annotated[
        str, typer.Argument(help="A run's name, the beginning of it, or its folder.", metavar="RUN", show_default=False)
    ],
    hosts: Annotated[
        list[str], typer.Argument(help="The hosts, as the spec names them.", metavar="HOST…", show_default=False)
    ],
    park: Annotated[
        bool, typer.Option("--park", help="Even if the run cannot go on without them: then it is parked.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts: one object, at the end.")] = False,
) -> int:
    """Free hosts of a living run: all workers save at the next step they agree on, and the run goes on without these.

    No step is lost or done twice, and it counts as no failure. It goes on if restart.min_workers or restart.spares
    of its spec allow it with the hosts that are left. The command returns when the hosts are free: their agents are
    gone, and what they had saved is elsewhere. Ctrl-C only leaves; the hosts are freed all the same.

    Exit codes: 0 the hosts are free and the run goes on, 75 it is parked (launcher resume goes on), 1 it has ended in
    another way meanwhile, or has no coordinator, 2 wrong usage, 130 left.

    Example:  launcher drain fashion-cnn gpu-b
    """
    from launcher.runs import listing
    from launcher.supervise import drain as drain_

    run = listing.find(run_name, listing.known_folders(os.environ), for_reading=False)
    hosts = list(dict.fromkeys(hosts))
    tell = (lambda _: None) if as_json else typer.echo
    since = drain_.ask(run, hosts, park=park)
    try:
        drained = drain_.follow(run, hosts, since, tell)
    except KeyboardInterrupt:
        typer.echo(f"Left; {', '.join(hosts)} will be free. See: launcher status {run.name}", err=True)
        return int(ExitCode.INTERRUPTED)
    code = _exit_code(drained)
    if as_json:
        state = drained.state.value if drained.state else None
        found = {"run": run.name, "left": list(drained.left), "state": state, "message": drained.message}
        typer.echo(json.dumps({**found, "resumes": drained.resumes, "exit_code": int(code)}))
    else:
        _say(run, drained)
    return int(code)


def _exit_code(drained: Drained) -> ExitCode:
    if drained.state is None:
        return ExitCode.FAILED if drained.gone else ExitCode.TRAINED
    if drained.state in (RunState.TRAINED, RunState.PARKED):
        return ExitCode.TRAINED if drained.state is RunState.TRAINED else ExitCode.PARKED
    return ExitCode.FAILED


def _say(run: RunFolder, drained: Drained) -> None:
    if drained.gone:
        typer.echo(f"The coordinator of {run.name} is gone; put another one in its place: launcher attach {run.name}")
    elif drained.state is not None:
        typer.echo(f"{run.name}: {drained.state}: {drained.message}")
        if drained.state is not RunState.TRAINED:
            typer.echo(f"Go on from its checkpoint: launcher resume {run.name}")
