"""`launcher ps`: what runs have alive, on this machine and on the hosts of a spec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from worker.contract.states import ExitCode

if TYPE_CHECKING:
    from launcher.errors import LauncherError

HERE = "this machine"
_COLUMNS = ("on", "pid", "what", "run", "host", "rank", "command")
_ORDER = {"coordinator": 0, "agent": 1, "warden": 2, "kept": 3, "worker": 4}


def ps(
    spec_file: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time
        typer.Argument(metavar="[SPEC]", help="A cluster's file: its hosts are looked at, too.", show_default=False),
    ] = None,
    kill: Annotated[bool, typer.Option("--kill", help="Kill what is left over, and what is kept warm.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For scripts: an array of objects.")] = False,
) -> int:
    """Show the coordinators, agents and workers of your runs that are alive on this machine, and on a spec's hosts.

    A worker that no agent minds is left over: its agent and warden were both killed. What is `kept` stays warm for the
    next `up` (`restart: {keep_warm: …}`). `--kill` ends those, and no others; a run that is alive is ended with
    `launcher down`.

    Exit codes: 0 all were looked at, 2 bad spec or usage, 3 a host cannot be reached; the others are shown.

    Example:  launcher ps cluster.yaml --kill
    """
    from json import dumps

    from launcher.view.rows import print_rows

    far, failed = _far(spec_file, kill) if spec_file is not None else ([], {})
    rows = _here(kill) + far
    for host, error in failed.items():
        typer.echo(f"{host}: {error.message}" + (f"\n    next: {error.hint}" if error.hint else ""), err=True)
    code = int(ExitCode.NOT_FIT if failed else ExitCode.TRAINED)
    if json:
        typer.echo(dumps(rows, indent=2))
        return code
    if not rows:
        where = "on this machine" if spec_file is None else "here or on the hosts that were reached"
        typer.echo(f"No run has anything alive {where}.")
        return code
    lines = [(row["on"] or HERE, *_line(row, str(Path.home()))) for row in rows]
    first = 0 if spec_file is not None else 1  # of one machine there is nothing to tell apart
    print_rows(_COLUMNS[first:], [line[first:] for line in lines], sys.stdout)
    left, kept = sum(not row["minded"] for row in rows), sum(row["kind"] == "kept" for row in rows)
    how = f"launcher ps{f' {spec_file}' if spec_file else ''} --kill"
    if left and not kill:
        typer.echo(f"\n{left} left over. Kill them with: {how}")
    elif kept and not kill:
        typer.echo(f"\n{kept} kept warm for the next run. End that with: {how}")
    return code


def _here(kill: bool) -> list[dict[str, Any]]:
    import os
    from dataclasses import asdict

    from launcher.runs import listing, processes

    known = {
        processes.socket_name(str(r.folder.path)): r.folder.name
        for r in listing.all_runs(listing.known_folders(os.environ))
    }
    living = processes.living(known)
    killed = {process.pid for process in living if kill and process.can_go and processes.kill(process)}
    return [{"on": "", **asdict(process), "killed": process.pid in killed} for process in living]


def _far(spec_file: Path, kill: bool) -> tuple[list[dict[str, Any]], dict[str, LauncherError]]:
    from dataclasses import asdict

    from launcher.cli.reaching import sessions_of
    from launcher.spec import load
    from launcher.supervise.living import all_of_them, living, this_machine
    from launcher.view.waiting import Waiting

    spec = load(spec_file)
    workdirs = {host.name: host.workdir for host in spec.hosts if not host.local}
    with Waiting(sys.stderr) as waiting, sessions_of(spec, waiting) as (sessions, unreached):
        away = {name: session for name, session in sessions.items() if name in workdirs}
        found, failed = living(
            workdirs, away, here=this_machine(), kill=all_of_them if kill else None, tell=waiting.tell
        )
    found.sort(key=lambda p: (p.on, p.run, _ORDER.get(p.kind, 9), -1 if p.rank is None else p.rank, p.pid))
    rows = [asdict(process) for process in found]
    for row in rows:
        del row["start_time"]  # of no use elsewhere; `created` tells the same
    return rows, {**unreached, **failed}


def _line(row: dict[str, Any], home: str) -> tuple[str, ...]:
    return (
        str(row["pid"]),
        row["kind"] if row["minded"] else "left over",
        row["run"],
        row["host"],
        "" if row["rank"] is None else str(row["rank"]),
        ("killed: " if row["killed"] else "") + _short(row["command"], home),
    )


def _short(command: str, home: str, width: int = 70) -> str:
    text = command.replace(home, "~")
    return text if len(text) <= width else text[: width - 1] + "…"
