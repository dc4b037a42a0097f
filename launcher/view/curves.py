"""The two figures of every training: loss and accuracy per epoch. The only place that imports matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence

from launcher.runs.model import EpochView, RunView

_SIZE = (7.2, 4.4)  # inches, at 150 dots each
_DPI = 150
_TRAINING, _VALIDATION = "#1f6fb4", "#d9731a"


def draw(view: RunView) -> dict[str, bytes]:
    """PNGs by file name, for what at least one epoch has told. Needs no display."""
    pictures = {}
    for name, label, training, validation in (
        ("loss.png", "loss", "loss", "val_loss"),
        ("accuracy.png", "accuracy", "accuracy", "val_accuracy"),
    ):
        told = (_points(view.epochs, training), _points(view.epochs, validation))
        if any(told):
            pictures[name] = _figure(view, label, *told)
    return pictures


Points = list[tuple[int, float]]


def _points(epochs: Sequence[EpochView], key: str) -> Points:
    return [(epoch.epoch, value) for epoch in epochs if (value := getattr(epoch, key)) is not None]


def _figure(view: RunView, label: str, training: Points, validation: Points) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    # A figure of its own rather than pyplot: no global state, and no backend that looks for a display.
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    # With many epochs the markers would run into each other.
    few = len(view.epochs) <= 40
    for points, colour, name, marker in (
        (training, _TRAINING, "training", "o"),
        (validation, _VALIDATION, "validation", "s"),
    ):
        if points:
            axes.plot(
                [epoch for epoch, _ in points],
                [value for _, value in points],
                color=colour,
                label=name,
                linewidth=1.8,
                marker=marker if few else None,
                markersize=4.5,
            )
    if label == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_title(view.run, fontsize=11, parse_math=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    first, last = view.epochs[0].epoch, view.epochs[-1].epoch
    margin = max(0.5, 0.03 * (last - first))
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(visible=True, color="#d9d9d9", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, loc="lower right" if label == "accuracy" else "upper right")
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()
