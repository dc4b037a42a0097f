"""`launcher clean`: old runs, and what was staged for them, here and on the hosts of a spec."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from worker.contract.states import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.errors import LauncherError
    from launcher.hosts.session import Session
    from launcher.supervise.sweep import Item, Sweep


def clean(
    spec_file: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time
        typer.Argument(metavar="[SPEC]", help="A cluster's file: its hosts are cleaned, too.", show_default=False),
    ] = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="What was changed or used since then stays: 30d, 12h.")
    ] = "30d",
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=0, help="The newest N runs of each place stay, however old.")
    ] = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For scripts: an object. Removes only with --yes.")] = False,
) -> int:
    """Remove the folders of old runs that are over, and what was staged on hosts and not used for as long.

    Without a spec only this machine's runs folder is cleaned; with one, its runs folder, and the workdir of every host.
    What would go is shown first, and how much that is. A run that is alive is never touched. While one is, all that is
    staged on the hosts stays, since it may be in use.

    Exit codes: 0 done, or nothing to do; 1 something cannot be removed; 2 bad spec or usage; 3 a host cannot be
    reached, the others were cleaned.

    Example:  launcher clean cluster.yaml --older-than 14d --keep 3
    """
    from contextlib import ExitStack

    from launcher.runs import listing
    from launcher.spec import load
    from launcher.supervise import sweep
    from launcher.view.waiting import Waiting

    asked = sweep.Asked(_seconds(older_than), keep)
    spec = load(spec_file) if spec_file is not None else None
    runs = Path(spec.coordinator.runs) if spec else listing.default_runs_folder(os.environ)
    workdirs = {host.name: host.workdir for host in spec.hosts if not host.local} if spec else {}
    with ExitStack() as stack:
        waiting = stack.enter_context(Waiting(sys.stderr))
        sessions: dict[str, Session] = {}
        unreached: dict[str, LauncherError] = {}
        if spec is not None and workdirs:
            from launcher.cli.reaching import sessions_of

            found, unreached = stack.enter_context(sessions_of(spec, waiting))
            sessions = {name: session for name, session in found.items() if name in workdirs}
        seen = sweep.look(runs, asked, workdirs, sessions, tell=waiting.tell)
        failed = {**unreached, **seen.failed}
        if not json:
            _show(seen, failed)
        items: Sequence[Item] = seen.items
        if items and (yes or (not json and _wanted(items))):
            items = sweep.remove(items, workdirs, sessions, tell=waiting.tell)
            if not json:
                _conclude(items)
    if json:
        _print_json(items, seen, failed)
    if failed:
        return int(ExitCode.NOT_FIT)
    return int(ExitCode.FAILED if any(item.error for item in items) else ExitCode.TRAINED)


def _seconds(text: str) -> float:
    from launcher.errors import UsageError
    from launcher.spec.values import UnfitError, duration

    if text.strip() in ("0", "0d", "0h", "0s"):
        return 0.0
    try:
        return duration(text)
    except UnfitError as error:
        raise UsageError(f"--older-than {text}: {error.message}", hint=f"expected: {error.expected}") from error


def _show(seen: Sweep, failed: dict[str, LauncherError]) -> None:
    from launcher.check.groups.disk import size
    from launcher.view.rows import print_rows

    for host, error in failed.items():
        typer.echo(f"{host}: {error.message}" + (f"\n    next: {error.hint}" if error.hint else ""), err=True)
    if seen.items:
        rows = [
            (item.on or "this machine", item.kind, _short(item.name), size(item.size), _idle(item.idle_s))
            for item in seen.items
        ]
        print_rows(("on", "what", "name", "size", "unused for"), rows, sys.stdout)
        typer.echo(f"\n{_counted(seen.items)} can go.")
    else:
        typer.echo("There is nothing to remove.")
    if seen.alive:
        typer.echo(f"What is staged on hosts stays: a run is alive on {', '.join(seen.alive)}.")


def _wanted(items: Sequence[Item]) -> bool:
    if not sys.stdin.isatty():
        typer.echo("Nothing was removed: there is nobody to ask. To remove it, say --yes.")
        return False
    things = "it" if len(items) == 1 else "them"
    if typer.confirm(f"Remove {things}?", default=False):
        return True
    typer.echo("Nothing was removed.")
    return False


def _conclude(items: Sequence[Item]) -> None:
    from launcher.view.text import neutral

    for item in items:
        if item.error:
            typer.echo(neutral(f"{item.on or 'this machine'}: {item.kind} {item.name}: {item.error}"), err=True)
    typer.echo(f"Removed: {_counted([item for item in items if item.removed])}.")


def _counted(items: Sequence[Item]) -> str:
    from launcher.check.groups.disk import size

    count = len(items)
    return f"{count} thing{'s' if count != 1 else ''}, {size(sum(item.size for item in items))}"


def _print_json(items: Sequence[Item], seen: Sweep, failed: dict[str, LauncherError]) -> None:
    from json import dumps

    shown = ("on", "kind", "name", "size", "idle_s", "removed", "error")
    told: dict[str, Any] = {
        "items": [{key: getattr(item, key) for key in shown} for item in items],
        "alive": list(seen.alive),
        "failed": {host: error.message for host, error in failed.items()},
    }
    typer.echo(dumps(told, indent=2))


def _idle(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _short(name: str) -> str:
    return name if len(name) < 40 else f"{name[:12]}…"
