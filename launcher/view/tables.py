"""A run, its ranks, its epochs as tables of text, on a terminal as in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from launcher.runs.model import Cause, EpochView, RunView
from launcher.runs.told import how_ended
from launcher.view.advice import ENDED_EARLY, next_step
from launcher.view.figures import NONE, moment, real, seconds, whole
from launcher.view.text import neutral
from worker.contract.states import RANK_ENDED, RankState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_IN_A_FILE = 200


def console(out: TextIO) -> Console:
    """A console that prints what it is given: no markup, and lines are not broken where there is no terminal."""
    from rich.console import Console

    width = None if out.isatty() else _WIDTH_IN_A_FILE
    return Console(file=out, width=width, highlight=False, markup=False, emoji=False)


def print_list(views: Sequence[RunView], out: TextIO) -> None:
    """Every run in a line."""
    table = _table(("run", "state", "started", "folder"))
    for view in views:
        table.add_row(
            neutral(view.run),
            str(view.state),
            moment(view.started_at),
            neutral(view.path.rpartition("/")[0]),
        )
    console(out).print(table)


def print_status(view: RunView, out: TextIO) -> None:
    """A run and its ranks now."""
    screen = console(out)

    def say(text: str) -> None:
        screen.print(text, soft_wrap=True)

    reason = f": {neutral(view.reason)}" if view.reason else ""
    say(f"{neutral(view.run)}  {view.state}{reason}")
    say(f"  folder       {neutral(view.path)}")
    say(f"  started      {moment(view.started_at)}" + (f", ended {moment(view.ended_at)}" if view.ended else ""))
    say(f"  coordinator  {_coordinator(view)}")
    say(f"  generation   {view.generation or NONE}")
    if view.cause:
        say(f"  cause        {_cause(view.cause)}")
    for divergence in view.divergences:
        say(f"  diverged     {neutral(divergence.message, 500)}")
    if view.newest_checkpoint:
        say(f"  checkpoint   {neutral(view.newest_checkpoint.path)}")
    if view.state in ENDED_EARLY:
        say(f"  next         {neutral(next_step(view), 1000)}")
    if view.ranks:
        screen.print()
        screen.print(_ranks(view))


def print_epochs(view: RunView, out: TextIO) -> None:
    """The epochs of a run, one a row. Images/s count training, not validation; each worker does an equal share."""
    workers = {g.generation: len(g.ranks) for g in view.generations}
    table = _table(("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "time", "images/s", "per worker"), right=8)
    for epoch in view.epochs:
        table.add_row(
            str(epoch.epoch),
            real(epoch.loss),
            real(epoch.accuracy),
            real(epoch.val_loss),
            real(epoch.val_accuracy),
            seconds(epoch.seconds),
            whole(epoch.images_per_second),
            whole(_per_worker(epoch, workers.get(epoch.generation) or view.workers)),
        )
    console(out).print(table)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """Rows of text under their columns' names."""
    table = _table(columns)
    for row in rows:
        table.add_row(*(neutral(cell) for cell in row))
    console(out).print(table)


def _table(columns: Sequence[str], right: int = 0) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index >= len(columns) - right else "left", overflow="fold")
    return table


def _ranks(view: RunView) -> Table:
    table = _table(("rank", "host", "pid", "state", "epoch", "step", "images/s", "loss"), right=4)
    for rank in view.ranks:
        # The exit code of a worker that finished or was asked to stop says nothing more than its state.
        how = how_ended(rank.exit_code, rank.signal) if rank.state in (RankState.FAILED, RankState.ENDED) else ""
        known = rank.state in RANK_ENDED and how and (rank.exit_code is not None or rank.signal)
        table.add_row(
            str(rank.rank),
            neutral(rank.host),
            str(rank.pid) if rank.pid else NONE,
            f"{rank.state}, {how}" if known else str(rank.state),
            str(rank.epoch) if rank.epoch is not None else NONE,
            whole(rank.step) + (f"/{whole(rank.steps)}" if rank.steps else ""),
            whole(rank.images_per_second),
            real(rank.loss),
        )
    return table


def _cause(cause: Cause) -> str:
    where = f"rank {cause.rank} on {cause.host}" if cause.rank is not None else cause.host
    return neutral(f"{where}: {cause.how}" + (f": {cause.message}" if cause.message else ""), 500)


def _coordinator(view: RunView) -> str:
    if view.coordinator_pid:
        return f"pid {view.coordinator_pid}"
    if view.ended and not view.by_agents:
        return "has left, as it should"
    return "is gone; this is told by the agents' journals and by who lives"


def _per_worker(epoch: EpochView, workers: int | None) -> float | None:
    return epoch.images_per_second / workers if epoch.images_per_second is not None and workers else None
