"""`launcher resume`: go on with a run from its newest checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.options import Overrides, Plain, Verbose
from worker.contract.states import RUN_RESUMABLE, RunState

if TYPE_CHECKING:
    from launcher.runs.model import RunView
    from launcher.spec.model import ClusterSpec

# What makes a run the run that it is: another seed, batch size, model or data set would be another one.
MAY_CHANGE = ("train.epochs", "hosts", "host_defaults", "timeouts", "checkpoint", "restart")


def resume(
    run_name: Annotated[str, typer.Argument(help="A run's name, the beginning of it, or its folder.", metavar="RUN")],
    overrides: Overrides = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it, print its name, and return.")] = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Go on with a run that has ended, from its newest whole checkpoint, as its next generation.

    `--set` may change epochs, hosts, timeouts and checkpoint; seed, batch size, model and data are the run itself.

    Example:  launcher resume fashion-cnn --set train.epochs=10
    """
    from launcher.cli.begin import begin_and_show, goes_on
    from launcher.errors import UsageError
    from launcher.runs import alive, listing
    from launcher.runs.read import read_run
    from launcher.supervise import launch
    from launcher.supervise.about import load_again, read_about, write_about
    from launcher.supervise.prepare import find_secrets

    wrong = [text for text in overrides or () if not text.startswith(MAY_CHANGE)]
    if wrong:
        raise UsageError(
            f"`resume --set` cannot change {wrong[0].partition('=')[0]}: it is the run's identity",
            hint=f"it may change {', '.join(MAY_CHANGE)}; for anything else, start a new run with `launcher up`",
        )
    run = listing.find(run_name, listing.known_folders(os.environ), for_reading=False)
    if alive.anything(run):
        raise UsageError(f"{run.name} is still alive", hint=f"see it: launcher attach {run.name}")
    view = read_run(run)
    about = read_about(run)
    every = [*about["overrides"], *(overrides or ())]
    spec = load_again(run, every)
    _refuse_if_done(view, spec)
    order = goes_on(run, spec, find_secrets(spec, os.environ), view)
    write_about(spec, run, every, launch.command_started_at())
    return begin_and_show(order, detach=detach, plain=plain, verbose=verbose)


def _refuse_if_done(view: RunView, spec: ClusterSpec) -> None:
    from launcher.errors import UsageError

    if view.state in RUN_RESUMABLE or view.state == RunState.NOT_FIT:
        return
    done = max((epoch.epoch for epoch in view.epochs), default=0)
    if view.state == RunState.TRAINED and (spec.train is None or spec.train.epochs <= done):
        raise UsageError(
            f"{view.run} is trained: there is nothing left to do",
            hint=f"to train on: launcher resume {view.run} --set train.epochs={done + 5}",
        )
