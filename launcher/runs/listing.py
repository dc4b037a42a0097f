"""Finding runs: the folders that runs are kept in, the runs in them, and the one that a person means."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from launcher.errors import RunError, UsageError
from launcher.runs import journal
from launcher.runs.alive import coordinates, who_lives
from launcher.runs.fields import number
from launcher.runs.folder import RunFolder
from launcher.runs.read import Probe, read_run
from worker.contract import records
from worker.contract.states import RUN_ALIVE

_SHOWN = 10
_MAX_INDEX = 1 << 20
_FIRST_RECORDS = 10


@dataclass(frozen=True)
class Listed:
    """A run and when it was started, without reading more than the first lines of its journal."""

    folder: RunFolder
    started_at: float


def default_runs_folder(environ: Mapping[str, str]) -> Path:
    """Where runs are kept when the spec says nothing: LAUNCHER_RUNS, else ~/launcher-runs."""
    said = environ.get("LAUNCHER_RUNS", "")
    return Path(said).expanduser().absolute() if said else _home(environ) / "launcher-runs"


def index_path(environ: Mapping[str, str]) -> Path:
    """The list of every folder that runs were ever kept in: one JSON string a line, so that any path fits in a line."""
    state = environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else _home(environ) / ".local" / "state"
    return base / "launcher" / "folders"


def remember(folder: Path, environ: Mapping[str, str]) -> None:
    """Note a folder that runs are kept in, so that `list` finds them. A convenience: it never fails."""
    path = str(folder.absolute())
    index = index_path(environ)
    if path in _read_index(index):
        return
    line = json.dumps(path).encode() + b"\n"
    try:
        index.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(index, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
    except OSError:
        return


def known_folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The default runs folder and every remembered one, each once."""
    paths = [default_runs_folder(environ), *(Path(path) for path in _read_index(index_path(environ)))]
    unique = {os.path.realpath(path): path for path in reversed(paths)}
    return tuple(reversed(unique.values()))


def all_runs(folders: Sequence[Path]) -> list[Listed]:
    """Every run in these folders, newest first. A folder that is not there or cannot be read has none."""
    found = [listed for folder in folders for path in _subfolders(folder) if (listed := _listed(path))]
    return sorted(found, key=lambda run: (run.started_at, run.folder.name), reverse=True)


def find(wanted: str | None, folders: Sequence[Path], *, for_reading: bool, probe: Probe = who_lives) -> RunFolder:
    """The run that a person means by its name, a prefix of it, or its path.

    Without a name: the newest one for reading, else the only one that is alive. Raises UsageError, naming the
    candidates, when there is none or more than one.
    """
    if wanted and (by_path := _by_path(wanted)):
        return by_path
    runs = all_runs(folders)
    if not runs:
        where = ", ".join(str(folder) for folder in folders)
        raise UsageError(f"there is no run in {where}", hint="start one: launcher up cluster.yaml")
    if not wanted:
        return runs[0].folder if for_reading else _only_alive(runs, probe)
    exact = [run for run in runs if run.folder.name == wanted]
    matching = exact or [run for run in runs if run.folder.name.startswith(wanted)]
    if len(matching) == 1:
        return matching[0].folder
    if matching:
        raise _choose(f"{len(matching)} runs match {wanted!r}", matching)
    raise _choose(f"no run is called {wanted!r} or starts so", runs)


def find_unbegun(wanted: str | None, folders: Sequence[Path]) -> RunFolder | None:
    """The run that a person means, if its coordinator went before it had prepared it: its folder says what was asked
    for, and no journal tells of it.

    Without a name: if it is newer than every run that has begun. Raises UsageError if it is being prepared just now.
    """
    if wanted and ("/" in wanted or wanted in (".", "..")):
        found = [RunFolder(Path(os.path.abspath(Path(wanted).expanduser())))]  # noqa: PTH100 - as above
    else:
        found = [RunFolder(path) for folder in folders for path in _subfolders(folder)]
        found = [run for run in found if not wanted or run.name.startswith(wanted)]
        found = [run for run in found if run.name == wanted] or found
    unbegun = {run.path: at for run in found if (at := _asked_for_at(run)) is not None and not _listed(run.path)}
    if not unbegun or (wanted and len(found) > 1):
        return None
    newest = RunFolder(max(unbegun, key=lambda path: unbegun[path]))
    if wanted and coordinates(newest):
        raise UsageError(f"{newest.name} is being prepared", hint="the terminal of its `up` shows how far that is")
    begun = [] if wanted else all_runs(folders)
    later = bool(begun) and begun[0].started_at > unbegun[newest.path]
    return None if later or coordinates(newest) else newest


def new_run_name(spec_name: str, now: datetime) -> str:
    """The name of a run that starts now: `fashion-cnn-20260102-030405`."""
    return f"{spec_name}-{now:%Y%m%d-%H%M%S}"


def make_run_folder(runs: Path, spec_name: str, now: datetime) -> RunFolder:
    """Make the folder of a new run (0700). Runs that start in the same second get -2, -3, … at the end of the name."""
    name = new_run_name(spec_name, now)
    try:
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        for attempt in range(1, 1000):
            folder = RunFolder(runs / (name if attempt == 1 else f"{name}-{attempt}"))
            try:
                folder.path.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise journal.cannot_write(runs / name, error) from error
    raise RunError(f"a thousand runs called {name} are in {runs}", hint="wait a second and try again")


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "")
    return Path(home) if home.startswith("/") else Path.home()


def _read_index(index: Path) -> list[str]:
    try:
        with open(index, "rb") as file:
            lines = file.read(_MAX_INDEX).splitlines()
    except OSError:
        return []
    found: dict[str, None] = {}
    for line in lines:
        try:
            path = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(path, str) and path.startswith("/") and "\0" not in path:
            found[path] = None
    return list(found)


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:
        return []


def _asked_for_at(run: RunFolder) -> float | None:
    try:
        return number(json.loads(run.about.read_bytes()), "launched_at")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _listed(path: Path) -> Listed | None:
    folder = RunFolder(path)
    try:
        for record in islice(journal.stream(folder.journal, limit=journal.MAX_LINE), _FIRST_RECORDS):
            if record["type"] == records.RUN_CREATED:
                return Listed(folder, number(record, "launched_at") or number(record, "t") or 0.0)
    except OSError:
        return None
    return None


def _by_path(wanted: str) -> RunFolder | None:
    if "/" not in wanted and wanted not in (".", ".."):
        return None
    path = Path(os.path.abspath(Path(wanted).expanduser()))  # noqa: PTH100 - a run reached through a link keeps its name
    if _listed(path):
        return RunFolder(path)
    raise UsageError(f"{path} holds no run", hint="launcher list shows the runs that there are")


def _only_alive(runs: Sequence[Listed], probe: Probe) -> RunFolder:
    alive = [run for run in runs if read_run(run.folder, probe).state in RUN_ALIVE]
    if len(alive) == 1:
        return alive[0].folder
    if alive:
        raise _choose(f"{len(alive)} runs are alive", alive)
    raise UsageError("no run is alive", hint="name a run; launcher list shows them")


def _choose(message: str, runs: Sequence[Listed]) -> UsageError:
    shown = "\n".join(f"    {run.folder.name}   {run.folder.path}" for run in runs[:_SHOWN])
    more = f"\n    and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
    return UsageError(f"{message}; there are:\n{shown}{more}", hint="say more of the name, or the run's path")
