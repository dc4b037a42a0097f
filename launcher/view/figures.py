"""Numbers, times and states as people read them: one way for tables, notes and the live screen."""

from __future__ import annotations

from datetime import datetime

from launcher.runs.model import EpochView
from worker.contract.states import RunState

NONE = "–"
MOST_METRICS = 8  # of a model's own in one line; the report has them all
PREFIX_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta")
COLOURS = {
    RunState.TRAINED: "green",
    RunState.TRAINING: "cyan",
    RunState.FAILED: "red",
    RunState.FAULTY: "red",
    RunState.NOT_FIT: "red",
    RunState.RESTARTING: "yellow",
    RunState.STOPPED: "yellow",
    RunState.PARKED: "yellow",
    RunState.STOPPING: "yellow",
}


def real(value: float | None, digits: int = 4) -> str:
    """A loss or an accuracy."""
    if value is None:
        return NONE
    return f"{value:.{digits}f}" if abs(value) < 10_000 else f"{value:.3g}"


def whole(value: float | None) -> str:
    """A count or a rate, with thousands set apart."""
    return NONE if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A time that passed: `0.4 s`, `12.3 s`, `2 min 05 s`, `3 h 07 min`."""
    if value is None:
        return NONE
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(at: float | None) -> str:
    """A point in time on this machine's clock: `2026-01-02 03:04:05`."""
    try:
        return NONE if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return NONE


def epoch_line(epoch: EpochView, planned: int | None) -> str:
    """An epoch in one line, for whoever follows a run."""
    of = f"/{planned}" if planned else ""
    parts = [f"epoch {epoch.epoch}{of}: loss {real(epoch.loss)}"]
    if epoch.accuracy is not None:
        parts.append(f"accuracy {real(epoch.accuracy)}")
    if epoch.val_loss is not None:
        parts.append(f"val_loss {real(epoch.val_loss)}")
    if epoch.val_accuracy is not None:
        parts.append(f"val_accuracy {real(epoch.val_accuracy)}")
    usual = ("loss", "accuracy", "val_loss", "val_accuracy")
    own = [f"{name} {real(value)}" for name, value in epoch.metrics.items() if name not in usual]
    parts += own[:MOST_METRICS]
    if epoch.seconds is not None:
        parts.append(seconds(epoch.seconds))
    if epoch.images_per_second is not None:
        parts.append(f"{whole(epoch.images_per_second)} images/s")
    return "  ".join(parts)
