"""Every checkpoint, bit for bit, against an untouched run of the same job."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chaos.checker.evidence import Evidence, Record, checkpoints

_TIMES = ("seconds", "images_per_second", "t")


def equal_untouched(evidence: Evidence) -> list[str]:
    """Where the fingerprint is the untouched run's, the arrays after so many steps are, too, and so are the epochs."""
    problems = []
    last = 0
    for host, room in evidence.rooms.items():
        for folder in {room, evidence.at_home(host)}:
            for name, (_, step) in checkpoints(folder).items():
                last = max(last, step)
                problems += [
                    f"{host}: {name}: {text}" for text in _of_one(evidence, folder / "checkpoints" / name, step)
                ]
    if tuple(evidence.codes[-1:]) == (0,) and last != evidence.epochs * _steps_per_epoch(evidence):
        problems.append(f"it trained, and its newest checkpoint is of step {last}")
    return problems


def _of_one(evidence: Evidence, path: Path, step: int) -> list[str]:
    reference = evidence.reference
    try:
        state = json.loads((path / "state.json").read_bytes())
        arrays = evidence.sha256(path / "arrays.npz")
    except (OSError, ValueError):
        return []  # that it is not whole is another invariant's
    if state.get("fingerprint") != reference.fingerprint:
        return []
    problems = []
    if step not in reference.arrays:
        problems.append(f"the untouched run never was at step {step}")
    elif arrays != reference.arrays[step]:
        problems.append("its arrays are not those of the untouched run")
    history = state.get("history", [])
    whole, rest = divmod(step, _steps_per_epoch(evidence))
    # A rescue may come before the validation of an epoch whose steps are done.
    may_be = {whole} if rest or step == evidence.epochs * _steps_per_epoch(evidence) else {whole, whole - 1}
    if len(history) not in may_be:
        problems.append(f"it holds {len(history)} epochs")
    if [entry["epoch"] for entry in history] != list(range(1, len(history) + 1)):
        problems.append(f"its epochs are {[entry['epoch'] for entry in history]}")
    for entry in history:
        if _told(entry) != _told(reference.epochs.get(entry["epoch"], {})):
            problems.append(f"epoch {entry['epoch']} is not what the untouched run told of it")
    return problems


def _steps_per_epoch(evidence: Evidence) -> int:
    return max(evidence.reference.arrays) // max(evidence.reference.epochs)


def _told(entry: Record) -> Record:
    return {key: value for key, value in entry.items() if key not in _TIMES}
