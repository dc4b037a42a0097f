"""What `--json` prints: the keys are a promise to scripts. More may be added, none is renamed or taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from launcher.runs.ledger import Booking, Life, Spent, Use
from launcher.runs.model import EpochView, RunView

Json = dict[str, Any]
EPOCH_KEYS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds", "images_per_second")


def listed(view: RunView) -> Json:
    """An item of `list --json`."""
    return {
        "run": view.run,
        "path": view.path,
        "state": str(view.state),
        "started_at": moment(view.started_at),
        "ended_at": moment(view.ended_at),
    }


def status(view: RunView) -> Json:
    """`status --json`. A pid is that of a living process, or null."""
    return {
        **listed(view),
        "reason": view.reason,
        "exit_code": view.exit_code,
        "coordinator_pid": view.coordinator_pid,
        "term": view.term,
        "generation": view.generation,
        "agents": [{"host": host, "pid": pid} for host, pid in view.agents.items()],
        "ranks": [
            {
                "rank": rank.rank,
                "host": rank.host,
                "pid": rank.pid,
                "state": str(rank.state),
                "epoch": rank.epoch,
                "step": rank.step,
                "steps": rank.steps,
                "loss": rank.loss,
                "images_per_second": rank.images_per_second,
                "exit_code": rank.exit_code,
                "signal": rank.signal,
                "log": rank.log,
            }
            for rank in view.ranks
        ],
        "checkpoints": [asdict(checkpoint) for checkpoint in view.checkpoints],
        "divergences": [asdict(divergence) for divergence in view.divergences],
        "unreachable": [{"host": host, "why": why} for host, why in view.unreachable.items()],
        "without": [{"host": host, "why": why} for host, why in view.without.items()],
        "remarks": list(view.remarks),
        "cause": asdict(view.cause) if view.cause else None,
        "booking": booking(view.booking),
    }


def report(view: RunView) -> Json:
    """`report --json`, and metrics.json. `generations` is how many there were; `starts` tells of each."""
    return {
        **listed(view),
        "reason": view.reason,
        "exit_code": view.exit_code,
        "workers": view.workers,
        "generations": len(view.generations),
        "starts": [
            {
                "generation": generation.generation,
                "started_at": moment(generation.started_at),
                "resumes": generation.resumes or None,
                "workers": len(generation.ranks),
            }
            for generation in view.generations
        ],
        "epochs": [epoch(item) for item in view.epochs],
        "test_loss": view.test_loss,
        "test_accuracy": view.test_accuracy,
        "time_to_first_step_s": view.time_to_first_step_s,
        "phases": [{"rank": rank.rank, **dict(rank.phases)} for rank in view.ranks],
        "model": view.model,
        "divergences": [asdict(divergence) for divergence in view.divergences],
        "cause": asdict(view.cause) if view.cause else None,
        "booking": booking(view.booking),
    }


def epoch(item: EpochView) -> Json:
    """One epoch of a report."""
    return {**{key: getattr(item, key) for key in EPOCH_KEYS}, "metrics": dict(item.metrics)}


def booking(book: Booking | None) -> Json | None:
    """`booking` of `status --json`, `report --json` and metrics.json. Seconds, exact to the millisecond."""
    if book is None:
        return None
    until = book.until_first_step_ms
    return {
        "total_s": book.total_ms / 1000,
        "seconds": _seconds(book.spent),
        "percent": {str(use): share for use, share in book.shares().items()},
        "goodput": None if book.goodput is None else round(book.goodput, 4),
        "to_first_step_s": None if until is None else until / 1000,
        "ended_s": book.ended_ms / 1000,
        "generations": [_life(life) for life in book.lives],
    }


def _life(life: Life) -> Json:
    return {
        "generation": life.generation,
        "began_at": moment(life.began_at),
        "ended_at": moment(life.ended_at),
        "resumes": life.resumes or None,
        "workers": life.workers,
        "hosts": list(life.hosts),
        "from_step": life.from_step,
        "first_step": life.first_step,
        "reached": life.reached,
        "done_again": life.done_again,
        "first_step_after_s": after_s(life.began_at, life.first_step_at),
        "reason": life.reason,
        "seconds": _seconds(life.spent),
    }


def after_s(since: float | None, at: float | None) -> float | None:
    """How long after something else happened, never less than nothing."""
    return None if since is None or at is None else round(max(0.0, at - since), 3)


def _seconds(spent: Spent) -> dict[str, float]:
    return {str(use): spent.get(use, 0) / 1000 for use in Use}


def own_metrics(epochs: Sequence[EpochView]) -> dict[str, str]:
    """The model's own metrics, each followed by its validation's, and what their columns are called.

    One that only says again what a column of every run says (`accuracy`, as a rule) is left out.
    """
    names = dict.fromkeys(name for item in epochs for name in item.metrics)
    known = [name for name in names if not (name in EPOCH_KEYS and all(_same(item, name) for item in epochs))]
    first = [name for name in known if not (name.startswith("val_") and name.removeprefix("val_") in known)]
    ordered = [one for name in first for one in (name, f"val_{name}") if one in known]
    return {name: f"own_{name}" if name in EPOCH_KEYS else name for name in ordered}


def _same(item: EpochView, name: str) -> bool:
    usual, own = getattr(item, name), item.metrics.get(name)
    return own is None or (usual is not None and math.isclose(usual, own, rel_tol=1e-4))


def rows(epochs: Sequence[EpochView]) -> list[Json]:
    """The rows of metrics.csv: what every run has, then the model's own metrics."""
    own = own_metrics(epochs)
    return [
        {
            **{key: getattr(item, key) for key in EPOCH_KEYS},
            **{shown: item.metrics.get(name) for name, shown in own.items()},
        }
        for item in epochs
    ]


def moment(at: float | None) -> str | None:
    """A point in time as ISO 8601 in UTC: `2026-01-02T03:04:05.000Z`."""
    try:
        if at is None:
            return None
        return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return None
