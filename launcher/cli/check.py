"""`launcher check`: look at every host before a run does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from launcher.cli.options import DEFAULT_SPEC, Overrides, SpecFile
from worker.contract.states import ExitCode


def check(
    spec_file: SpecFile = DEFAULT_SPEC,
    overrides: Overrides = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print facts and findings as JSON; `plan --facts` reads it.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="If all is well, let all workers do two steps of a real all-reduce.")
    ] = False,
    facts_out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option("--facts-out", metavar="FILE", help="Write the facts to a file for `plan --facts`."),
    ] = None,
) -> int:
    """Look at every host of a file at once, and say what would stop a run there, and how to mend it.

    Each host is reached and asked for its Python, TensorFlow and Keras, GPUs and who is on them, disk, limits, clock,
    proxies, addresses, other users. Then every worker's planned address and port is tried for real from every other
    host. Shown is a table of hosts and checks; below it stands what is wrong, each with the next step. FAIL stops
    `launcher up`, warn does not. Nothing is trained, and nothing is left on the hosts but our own package and a note of
    the versions that were found.

    Exit codes: 0 fit, 2 bad spec or usage, 3 not fit.

    Example:  launcher check cluster.yaml --facts-out facts.json
    """
    import json
    import sys
    import time

    from launcher.check import facts_file, preflight
    from launcher.cli.reaching import sessions_of
    from launcher.runs.folder import RunFolder
    from launcher.spec import load
    from launcher.view import check as view
    from launcher.view.waiting import Waiting

    spec = load(spec_file, overrides or ())
    # Where a run that began now would be: nothing is made.
    run = RunFolder(Path(spec.coordinator.runs) / f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    with Waiting(sys.stderr) as waiting, sessions_of(spec, waiting) as (sessions, unreached):
        examined = preflight.examine(
            spec, run, sessions, unreached=unreached, after_setup=False, deep=deep, tell=waiting.tell
        )
    if facts_out is not None:
        facts_file.write(facts_out, examined.seen.facts)
    if as_json:
        typer.echo(json.dumps(view.to_json(examined), indent=2))
    else:
        view.print_check(examined, sys.stdout)
    return int(ExitCode.TRAINED if examined.fit else ExitCode.NOT_FIT)
