"""`launcher report`: epochs, curves, metrics and where the model is."""

from __future__ import annotations

from typing import Annotated

import typer


def report(
    run: Annotated[
        str | None, typer.Argument(help="A run's name, a prefix of it, or its path.", metavar="[RUN]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Draw no curves.")] = False,
) -> None:
    """Print a run's epochs and result, and write metrics and curves to its report/ folder. The newest run by default.

    Example:  launcher report fashion
    """
    import json
    import os
    import sys

    from launcher.runs.listing import find, known_folders
    from launcher.runs.read import read_run
    from launcher.view import values
    from launcher.view.report import print_report, write_report

    folder = find(run, known_folders(os.environ), for_reading=True)
    view = read_run(folder, book=True)
    files = write_report(folder, view, pictures=not no_pictures)
    if as_json:
        print(json.dumps(values.report(view), indent=2))
    else:
        print_report(view, files, sys.stdout)
