"""`launcher ps`: what runs have alive on this machine."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from worker.contract.states import ExitCode


def ps(
    kill: Annotated[bool, typer.Option("--kill", help="Kill what is left over: workers that no agent minds.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For scripts: an array of objects.")] = False,
) -> int:
    """Show the coordinators, agents and workers of your runs that are alive on this machine.

    A worker that no agent minds is left over: its agent and warden were both killed. `--kill` ends those, and no
    others; a run that is alive is ended with `launcher down`.

    Example:  launcher ps --kill
    """
    from dataclasses import asdict
    from json import dumps
    from pathlib import Path

    from launcher.runs import listing, processes
    from launcher.view.tables import print_rows

    known = {
        processes.socket_name(str(r.folder.path)): r.folder.name
        for r in listing.all_runs(listing.known_folders(os.environ))
    }
    living = processes.living(known)
    left = [process for process in living if not process.minded]
    killed = [process.pid for process in left if kill and processes.kill(process)]
    if json:
        rows = [{**asdict(process), "killed": process.pid in killed} for process in living]
        typer.echo(dumps(rows, indent=2))
        return int(ExitCode.TRAINED)
    if not living:
        typer.echo("No run has anything alive on this machine.")
        return int(ExitCode.TRAINED)
    rows_text = [
        (
            str(process.pid),
            process.kind if process.minded else "left over",
            process.run,
            process.host,
            "" if process.rank is None else str(process.rank),
            ("killed: " if process.pid in killed else "") + _short(process.command, str(Path.home())),
        )
        for process in living
    ]
    print_rows(("pid", "what", "run", "host", "rank", "command"), rows_text, sys.stdout)
    if left and not kill:
        typer.echo(f"\n{len(left)} left over. Kill them with: launcher ps --kill")
    return int(ExitCode.TRAINED)


def _short(command: str, home: str, width: int = 70) -> str:
    text = command.replace(home, "~")
    return text if len(text) <= width else text[: width - 1] + "…"
