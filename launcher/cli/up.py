"""`launcher up`: carry out a cluster.yaml."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.options import DEFAULT_SPEC, Overrides, Plain, SpecFile, Verbose


def up(
    spec_file: SpecFile = DEFAULT_SPEC,
    overrides: Overrides = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it, print its name, and return.")] = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Start the cluster that a file describes, and show it until it ends.

    The run lives in a process of its own: closing this terminal does not end it (`launcher attach` shows it again).
    Ctrl-C stops it gracefully, with a checkpoint; a second Ctrl-C at once.

    Exit codes: 0 trained, 1 training failed, 2 bad spec or usage, 3 hosts not fit or not reachable, 75 parked,
    130 interrupted.

    Example:  launcher up cluster.yaml --set train.epochs=10
    """
    from launcher.cli.begin import begin_and_show
    from launcher.runs import listing
    from launcher.spec import load
    from launcher.supervise import launch
    from launcher.supervise.about import write_about
    from launcher.supervise.order import Order
    from launcher.supervise.prepare import find_secrets

    spec = load(spec_file, overrides or ())
    secrets = find_secrets(spec, os.environ)
    launched_at = launch.command_started_at()
    runs = Path(spec.coordinator.runs)
    run = listing.make_run_folder(runs, spec.name, datetime.now())  # noqa: DTZ005 - a person reads the name
    listing.remember(runs, os.environ)
    try:
        write_about(spec, run, overrides or (), launched_at)
        return begin_and_show(Order(run, spec, secrets), detach=detach, plain=plain, verbose=verbose)
    except launch.NotStartedError:
        raise
    except BaseException:
        if not run.journal.exists():  # nothing has begun: there is no run to look at
            shutil.rmtree(run.path, ignore_errors=True)
        raise
