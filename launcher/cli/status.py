"""`launcher status`: how a run stands, whoever of it is still alive."""

from __future__ import annotations

from typing import Annotated

import typer


def status(
    run: Annotated[
        str | None, typer.Argument(help="A run's name, a prefix of it, or its path.", metavar="[RUN]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show how a run stands: its state, its coordinator, and what each worker does. The newest run by default.

    Example:  launcher status fashion --json
    """
    import json
    import os
    import sys

    from launcher.runs.listing import find, known_folders
    from launcher.runs.read import read_run
    from launcher.view import tables, values

    view = read_run(find(run, known_folders(os.environ), for_reading=True), book=True)
    if as_json:
        print(json.dumps(values.status(view), indent=2))
    else:
        tables.print_status(view, sys.stdout)
