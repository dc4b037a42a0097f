"""A zygote that may outlive its run: whether what it has in memory is still what a fresh start would read, and what it
takes over of the run that adopts it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..agent import origin
from ..agent.kept import move_package
from ..contract import names
from .shown import show_run

if TYPE_CHECKING:
    from .stock import Stock

_State = tuple[int, int, int, int]  # device, inode, size, time of the last change


@dataclass(frozen=True)
class Adopted:
    """The run that is served from now on: its marks and its job, where its copy of our package is, the zygote's log."""

    about: Mapping[str, str]
    code: str
    log: int


class Warmth:
    """What was imported and read for the run that the zygote was started for."""

    def __init__(self, env: Mapping[str, str], stock: Stock | None) -> None:
        self._dataset = _dataset(env.get(names.TRAIN, ""))
        self._stock = stock
        self._path = env.get("PYTHONPATH", "")
        self._files = _states(_read_files()) if origin.may_be_kept(env) else None

    def adopt(self, request: Adopted) -> str:
        """Serve this run from now on; otherwise why that cannot be."""
        with os.fdopen(request.log, "rb", closefd=True):
            why = self._doubt(request)
            if why:
                return why
            os.dup2(request.log, 1)
            os.dup2(request.log, 2)
        os.chdir("/")
        if request.code != sys.argv[0]:
            move_package(__name__, request.code)
        for name in (*request.about, names.RANK):
            os.environ.pop(name, None)
        origin.clear_room(os.environ)
        show_run(request.about)
        return ""

    def settle(self, env: Mapping[str, str]) -> None:
        """In a rank's process: the user's own code is found where this run has it."""
        now = env.get("PYTHONPATH", "")
        moved = dict(zip(self._path.split(":"), now.split(":"), strict=False))
        sys.path[:] = [moved.get(entry, entry) for entry in sys.path]

    def _doubt(self, request: Adopted) -> str:
        if self._files is None:
            return "what it had imported is not known"
        if _dataset(request.about[names.TRAIN]) != self._dataset:
            return "another data set is wanted"
        if self._stock is not None and not self._stock.serves(*self._dataset):
            return "the data set has changed"
        changed = sorted(path for path, state in self._files.items() if _state(path) != state)
        return f"{changed[0]} has changed since it was imported" if changed else ""


def _dataset(train: str) -> tuple[str, str | None]:
    try:
        dataset = json.loads(train)["dataset"]
        path: Any = dataset.get("path")
        return str(dataset["kind"]), path
    except (KeyError, TypeError, ValueError, AttributeError):
        return "", None


def _read_files() -> set[str]:
    """Every file that code came from, libraries among them, and the folders in which more could have been found."""
    files = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        files |= {line.rstrip("\n").split(None, 5)[5] for line in maps if "/" in line}
    # Ranks that find the user's code in its copy leave there what they have compiled.
    return {path for path in {*files, *sys.path, sys.executable} - {os.getcwd()} if path.startswith("/")}


def _states(paths: set[str]) -> dict[str, _State | None]:
    return {path: _state(path) for path in paths}


def _state(path: str) -> _State | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns
