"""`launcher attach`: show a run that goes on without a terminal, and take it in hand if its coordinator is dead."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.options import Plain, RunName, Verbose
from worker.contract.states import RUN_RESUMABLE, RunState

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

    A run whose coordinator is dead is taken in hand first: it is watched, restarted and brought home again; one that
    is parked goes on from its checkpoint. With `--take-over` a coordinator that lives is replaced, too: when it is
    frozen, or its machine is about to go down.

    Example:  launcher attach fashion-cnn
    """
    from launcher.cli.follow import follow
    from launcher.errors import UsageError
    from launcher.runs import alive, listing
    from launcher.runs.read import read_run

    if take_over and look:
        raise UsageError("--take-over and --look are opposites", hint="give one of them")
    folders = listing.known_folders(os.environ)
    unbegun = None if take_over or look else listing.find_unbegun(run_name, folders)
    if unbegun is not None:
        _begin_again(unbegun)
        return follow(unbegun, plain=plain, verbose=verbose, owns=False)
    run = listing.find(run_name, folders, for_reading=not take_over)
    if take_over and alive.coordinates(run):
        from launcher.supervise.control import end_coordinator

        end_coordinator(run)
    view = read_run(run)
    if not look and not alive.coordinates(run) and (view.by_agents or view.state is RunState.PARKED):
        _take_in_hand(run, view)
        code = follow(run, plain=plain, verbose=verbose, owns=False)
        if not (view.by_agents and _was_parked(run)):
            return code
        _take_in_hand(run, read_run(run))
    elif view.state in RUN_RESUMABLE:
        typer.echo(f"{run.name} has ended. Go on from its checkpoint: launcher resume {run.name}", err=True)
    return follow(run, plain=plain, verbose=verbose, owns=False)


def _take_in_hand(run: RunFolder, view: RunView) -> None:
    """Start another coordinator; if that cannot be, say why, and that only a view follows.

    Raises NotFitError if none of the run's hosts can be reached.
    """
    from launcher.cli.begin import begin, goes_on, take_over
    from launcher.errors import LauncherError, NotFitError
    from launcher.runs.journal import read
    from launcher.supervise.about import load_again, read_about
    from launcher.supervise.launch import NotStartedError
    from launcher.supervise.order import Order
    from launcher.supervise.prepare import find_secrets
    from launcher.supervise.takeover import newest_begun

    try:
        spec = load_again(run, read_about(run)["overrides"])
        secrets = find_secrets(spec, os.environ)
        if not view.by_agents:
            begin(goes_on(run, spec, secrets, view))
            typer.echo(f"{run.name} was parked, and goes on.", err=True)
        elif newest_begun(read(run.journal)):
            take_over(Order(run, spec, secrets, view.generation, after_term=view.term))
            typer.echo(f"The coordinator of {run.name} was gone; another one has taken the run in hand.", err=True)
        else:
            _refuse_if_stopped(run)
            begin(goes_on(run, spec, secrets, view))
            typer.echo(f"{UNBEGUN.format(run.name)} and is begun again.", err=True)
    except NotStartedError as error:
        # Somebody else was faster, and has it, or has brought it to its end.
        typer.echo(f"{run.name} is only looked at: {error.message}", err=True)
    except NotFitError as error:
        hint = "training goes on under its lease wherever it can; try again, or only look: " if view.by_agents else ""
        raise NotFitError(error.message, hint=error.hint or f"{hint}launcher attach --look {run.name}") from error
    except LauncherError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        typer.echo(f"{run.name} is only looked at: {error.message}{hint}", err=True)


def _was_parked(run: RunFolder) -> bool:
    """Whether the run has just ended as one whose lease had run out before anybody took it in hand again."""
    from launcher.runs.read import read_run
    from launcher.supervise.takeover import had_parked

    return read_run(run).state is RunState.PARKED and had_parked(run)


UNBEGUN = "{} had started no worker when its coordinator went,"


def _begin_again(run: RunFolder) -> None:
    """Begin a run whose coordinator went while it was being prepared: nothing of it is anywhere yet but its folder."""
    from launcher.cli.begin import begin
    from launcher.supervise.about import load_again, read_about
    from launcher.supervise.order import Order
    from launcher.supervise.prepare import find_secrets

    typer.echo(f"{UNBEGUN.format(run.name)} and is begun again, with your folder as it is now.", err=True)
    spec = load_again(run, read_about(run)["overrides"])
    begin(Order(run, spec, find_secrets(spec, os.environ), after_term=0))


def _refuse_if_stopped(run: RunFolder) -> None:
    from launcher.errors import RunError
    from launcher.runs.journal import read
    from launcher.supervise.takeover import of_this_life
    from worker.contract import records

    if any(record["type"] == records.STOP_REQUESTED for record in of_this_life(read(run.journal))):
        raise RunError(
            "it had been asked to stop, and had started no worker, when its coordinator went",
            hint=f"to go on nevertheless: launcher resume {run.name}",
        )
