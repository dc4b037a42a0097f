"""The newest whole checkpoint of a run, of whichever host it is on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.runs.folder import RunFolder
from worker.contract.checkpoints import verify
from worker.contract.layout import parse_checkpoint_name


@dataclass(frozen=True)
class Found:
    """`name` and `folder` are empty if there is none; `passed_over` tells of newer ones that are not whole."""

    name: str
    folder: str
    passed_over: tuple[tuple[str, str], ...]


def newest_checkpoint(run: RunFolder) -> Found:
    """The checkpoint with the highest step whose every hash is right. Reads whole files, so it takes a moment."""
    candidates: list[tuple[int, int, Path]] = []
    if run.hosts.is_dir():
        for folder in run.hosts.glob("*/checkpoints/*"):
            parsed = parse_checkpoint_name(folder.name)
            if parsed is not None and folder.is_dir() and not folder.is_symlink():
                generation, step = parsed
                candidates.append((step, generation, folder))
    passed_over: list[tuple[str, str]] = []
    for _, _, folder in sorted(candidates, reverse=True):
        problems = verify(str(folder))
        if not problems:
            return Found(folder.name, str(folder), tuple(passed_over))
        passed_over.append((folder.name, problems[0]))
    return Found("", "", tuple(passed_over))
