"""`launcher plan`: what a run would do, without doing any of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from launcher.cli.options import DEFAULT_SPEC, Overrides, SpecFile


def plan(
    spec_file: SpecFile = DEFAULT_SPEC,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    facts_file: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option("--facts", metavar="FILE", help="What was found on the hosts, as JSON."),
    ] = None,
    rank: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--rank", metavar="N", help="Show this rank only."),
    ] = None,
) -> None:
    """Show what each rank would do: host, address, GPUs, TF_CONFIG, environment, argv, files.

    Each rank also comes with a line that runs it by hand when it is pasted in a shell. Nothing is started or written,
    and no connection is opened. What only a host can tell shows as "found at check".

    Example:  launcher plan cluster.yaml --set train.epochs=2 --rank 0
    """
    import json
    import shutil
    import sys
    import time

    from launcher.check import facts_file as files
    from launcher.check import local
    from launcher.errors import UsageError
    from launcher.plan.build import plan as build
    from launcher.plan.json_form import to_json
    from launcher.plan.shell import line
    from launcher.spec import load

    cluster = load(spec_file, overrides or ())
    run = f"{cluster.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    given = files.read(facts_file) if facts_file is not None else {}
    found = local.gather(cluster, Path(cluster.coordinator.runs) / run, skip=given.keys())
    made = build(cluster, {**found, **given}, run=run)
    if rank is not None and not 0 <= rank < len(made.ranks):
        raise UsageError(
            f"there is no rank {rank} in this plan", hint=f"name one from 0 to {len(made.ranks) - 1} with --rank"
        )
    if as_json:
        value = to_json(made)
        value["ranks"] = [
            {**shown, "line": line(one) if one.known else None}
            for shown, one in zip(value["ranks"], made.ranks, strict=True)
            if rank in (None, one.rank)
        ]
        text = json.dumps(value, indent=2) + "\n"
    else:
        from launcher.view.plan import render

        text = render(made, width=min(100, max(60, shutil.get_terminal_size().columns)), rank=rank)
    # A path may hold bytes that are no UTF-8: they go out as they came in.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()
