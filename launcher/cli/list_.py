"""`launcher list`: every run, wherever runs were ever kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def list_runs(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    runs: Annotated[Path | None, typer.Option("--runs", metavar="DIR", help="Only the runs in this folder.")] = None,
) -> None:
    """Show every run, newest first: its name, state, start and folder.

    Example:  launcher list --json
    """
    import json
    import os
    import sys

    from launcher.runs.listing import all_runs, known_folders
    from launcher.runs.read import read_run
    from launcher.view import tables, values

    folders = [runs.expanduser().absolute()] if runs else known_folders(os.environ)
    views = [read_run(run.folder) for run in all_runs(folders)]
    if as_json:
        print(json.dumps([values.listed(view) for view in views], indent=2))
    elif views:
        tables.print_list(views, sys.stdout)
    else:
        print(f"there is no run in {', '.join(map(str, folders))}", file=sys.stderr)
