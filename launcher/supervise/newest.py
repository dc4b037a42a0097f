"""The newest whole checkpoint of a run, of whichever host it is on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.runs.copies import Divergence, divergences
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read
from launcher.runs.lineage import limits
from launcher.runs.told import told_by_coordinator
from worker.contract.checkpoints import verify
from worker.contract.layout import ARRAYS, MANIFEST, parse_checkpoint_name


@dataclass(frozen=True)
class Found:
    """`name` and `folder` are empty if there is none; `passed_over` tells of newer ones that cannot be used."""

    name: str
    folder: str
    passed_over: tuple[tuple[str, str], ...]


def newest_checkpoint(run: RunFolder) -> Found:
    """The checkpoint with the highest step whose every hash is right. Reads whole files, so it takes a moment.

    Only of the newest lineage: what a generation did beyond the step from which a later one began was done again since.
    A copy that is not whole is passed over for one of the same name on another host. What has two whole copies that
    differ is not used, nor what its generation saved after it.
    """
    hosts = sorted(run.hosts.iterdir()) if run.hosts.is_dir() else []
    known = divergences({host.name: read(Path(run.host(host.name).journal)) for host in hosts})
    copies: dict[tuple[int, int], list[Path]] = {}
    for host in hosts:
        for folder in sorted(Path(run.host(host.name).checkpoints).glob("*")):
            parsed = parse_checkpoint_name(folder.name)
            if parsed is not None and folder.is_dir() and not folder.is_symlink():
                generation, step = parsed
                copies.setdefault((step, generation), []).append(folder)
    known_generations = told_by_coordinator(read(run.journal)).generations
    passed_over: list[tuple[str, str]] = []
    for saved in best_first(copies, {n: view.resumes for n, view in known_generations.items()}):
        folders = copies[saved]
        name = folders[0].name
        doubt = _doubt(name, known)
        whole = None if doubt else _first_whole(folders, passed_over)
        if whole is not None:
            doubt = _unlike(whole, folders)
            if not doubt:
                return Found(name, str(whole), tuple(passed_over))
        if doubt:
            passed_over.append((name, doubt))
    return Found("", "", tuple(passed_over))


def best_first(saved: Collection[tuple[int, int]], resumes: Mapping[int, str]) -> list[tuple[int, int]]:
    """The (step, generation) of checkpoints to go on from, the best first, without those of a lineage that was left.

    `resumes` says what each generation started from. Pure.
    """
    belongs = limits(resumes, {generation for _, generation in saved})
    return [
        (step, generation)
        for step, generation in sorted(saved, reverse=True)
        if generation not in resumes or step <= belongs.get(generation, -1)
    ]


def _doubt(name: str, known: Sequence[Divergence]) -> str:
    for divergence in known:
        if divergence.concerns(name):
            return (
                divergence.message if name == divergence.name else f"saved after {divergence.name}, whose copies differ"
            )
    return ""


def _first_whole(folders: Sequence[Path], passed_over: list[tuple[str, str]]) -> Path | None:
    """The first copy that is whole; those before it are told."""
    for folder in folders:
        problems = verify(str(folder))
        if not problems:
            return folder
        passed_over.append((folder.name, problems[0]))
    return None


def _unlike(whole: Path, folders: Sequence[Path]) -> str:
    """What is to be said if another whole copy holds other arrays: journals may have been lost. Empty if none does."""
    arrays = _arrays(whole)
    for other in folders:
        if other != whole and _arrays(other) not in ("", arrays) and not verify(str(other)):
            return f"its copies differ: {whole} and {other}"
    return ""


def _arrays(folder: Path) -> str:
    """The hash of a copy's arrays, as its manifest has it; empty if it cannot be read."""
    try:
        return str(json.loads((folder / MANIFEST).read_bytes())["files"][ARRAYS]["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
