"""What runs and staging have left and nobody has used for long, here and on hosts; and its removal."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher.check.many import Tell, each, untold
from launcher.errors import LauncherError
from launcher.hosts.session import Session
from launcher.runs import old
from launcher.stage.remote import Left, LeftRun, LeftRuns, There

RUN = "run"
# What is younger may be on its way there: staging holds no name that tells that it is at work.
UNDER_WAY_S = 3600.0


@dataclass(frozen=True)
class Asked:
    """What is to go: what nobody has changed or used for so long; but the newest `keep` runs of each place stay."""

    older_than_s: float
    keep: int = 0


@dataclass(frozen=True)
class Item:
    """One thing that can go: `on` a host, or here if that is empty; `kind` is `run`, or what staging calls it."""

    on: str
    kind: str
    name: str
    size: int  # bytes on the disk
    idle_s: float  # for how long nobody has changed or used it
    what: old.OldRun | LeftRun | Left
    removed: bool = False
    error: str = ""


@dataclass(frozen=True)
class Sweep:
    """What can go; `alive`: where runs live, so that what is staged stays; `failed`: hosts that are not known of."""

    items: Sequence[Item]
    alive: Sequence[str] = ()
    failed: Mapping[str, LauncherError] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    runs: LeftRuns
    staged: Sequence[Left]


def look(
    runs: Path,
    asked: Asked,
    workdirs: Mapping[str, str],
    sessions: Mapping[str, Session],
    *,
    tell: Tell = untold,
    now: Callable[[], float] = time.time,
) -> Sweep:
    """What can go of the folder `runs` of this machine, and of the workdirs of these hosts. Removes nothing. Blocks.

    A run that lives stays, by whatever is known here and there. So does, while any run lives on any of the hosts, all
    that is staged on them: it may be in use, and hosts may share a disk.
    """
    here = old.look(runs)
    spared = {run.folder.name for run in here if run.alive}
    kept = {run.folder.name for run in [one for one in here if not one.alive][: asked.keep]} if asked.keep else set()

    def ask(host: str) -> _Seen:
        with There(sessions[host], workdir=workdirs[host]) as there:
            return _Seen(there.runs(), there.left())

    seen, failed = each(list(sessions), ask, what="looking at", tell=tell)
    spared |= {run.name for one in seen.values() for run in one.runs.found if run.busy}
    alive = [host for host, one in seen.items() if one.runs.alive or any(run.busy for run in one.runs.found)]
    if sessions and any(run.here for run in here):
        alive.insert(0, "this machine")
    items = [
        Item("", RUN, run.folder.name, run.size, idle, run)
        for run in here
        if (idle := now() - run.used) >= asked.older_than_s and not run.alive and run.folder.name not in spared | kept
    ]
    for host, one in seen.items():
        items += _runs(host, one.runs, asked, spared | kept)
        if not alive:
            items += _staged(host, one, asked)
    return Sweep(items, alive, failed)


def remove(
    items: Sequence[Item], workdirs: Mapping[str, str], sessions: Mapping[str, Session], *, tell: Tell = untold
) -> list[Item]:
    """The items, each `removed`, or with the `error` for which it is not. Whatever lives or was used since stays."""
    done = [_remove_here(item) for item in items if not item.on]
    by_host: dict[str, list[Item]] = {}
    for item in items:
        if item.on:
            by_host.setdefault(item.on, []).append(item)

    def work(host: str) -> list[Item]:
        return list(_remove_there(sessions[host], workdirs[host], by_host[host]))

    there, failed = each(list(by_host), work, what="cleaning", tell=tell)
    for host, wanted in by_host.items():
        done += there[host] if host in there else [replace(item, error=failed[host].message) for item in wanted]
    return done


def _runs(host: str, seen: LeftRuns, asked: Asked, spared: Collection[str]) -> Iterable[Item]:
    over = sorted((run for run in seen.found if not run.busy), key=lambda run: run.used, reverse=True)
    for run in over[asked.keep :]:
        idle = seen.now - run.used
        least = asked.older_than_s if run.begun else max(asked.older_than_s, UNDER_WAY_S)
        if idle >= least and run.name not in spared:
            yield Item(host, RUN, run.name, run.size, idle, run)


def _staged(host: str, seen: _Seen, asked: Asked) -> Iterable[Item]:
    for left in seen.staged:
        idle = seen.runs.now - left.used
        if not left.busy and idle >= max(asked.older_than_s, UNDER_WAY_S):
            yield Item(host, left.kind, left.name, left.size, idle, left)


def _remove_here(item: Item) -> Item:
    assert isinstance(item.what, old.OldRun)
    try:
        old.remove(item.what)
    except LauncherError as error:
        return replace(item, error=error.message)
    return replace(item, removed=True)


def _remove_there(session: Session, workdir: str, items: Sequence[Item]) -> Iterable[Item]:
    """After an error a conversation is over, so the rest gets another one."""
    waiting = list(items)
    while waiting:
        with There(session, workdir=workdir) as there:
            staged, alive = _now(there) if any(isinstance(item.what, Left) for item in waiting) else ({}, False)
            while waiting:
                item = waiting.pop(0)
                try:
                    if isinstance(item.what, LeftRun):
                        there.forget(item.what)
                    elif isinstance(item.what, Left):
                        error = _stays(item.what, staged, alive)
                        if error:
                            yield replace(item, error=error)
                            continue
                        there.remove(item.what)
                except LauncherError as error:
                    yield replace(item, error=error.message)
                    break
                yield replace(item, removed=True)


def _now(there: There) -> tuple[dict[tuple[str, str], Left], bool]:
    return {(left.kind, left.name): left for left in there.left()}, there.runs().alive


def _stays(left: Left, staged: Mapping[tuple[str, str], Left], alive: bool) -> str:
    """Why something that was staged is not to go any more; nothing if it is, or is gone already."""
    now = staged.get((left.kind, left.name))
    if alive:
        return "a run lives there by now, so it stays"
    return "it was used since, and stays" if now is not None and (now.busy or now.used > left.used) else ""
