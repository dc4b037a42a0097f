"""A run, its ranks, its epochs as tables of text, on a terminal as in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from launcher.runs.model import Cause, EpochView, RunView
from launcher.runs.told import how_ended
from launcher.view.advice import ENDED_EARLY, next_step
from launcher.view.figures import NONE, moment, real, seconds, whole
from launcher.view.rows import GAP, console, table_of
from launcher.view.text import neutral
from launcher.view.values import own_metrics
from worker.contract.states import RANK_ENDED, RankState

if TYPE_CHECKING:
    from rich.table import Table

_REMARKS = 3  # the newest ones
_Column = tuple[str, list[str]]  # its name and its cells


def print_list(views: Sequence[RunView], out: TextIO) -> None:
    """Every run in a line."""
    table = table_of(("run", "state", "started", "folder"))
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
    from launcher.view import book

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
    for host, why in view.unreachable.items():
        say(f"  unreachable  {neutral(host)}: {neutral(why, 500)}; training goes on there")
    for host, why in view.without.items():
        say(f"  without      {neutral(host)}: {neutral(why, 500)}")
    for remark in view.remarks[-_REMARKS:]:
        say(f"  remark       {neutral(remark, 500)}")
    if view.newest_checkpoint:
        say(f"  checkpoint   {neutral(view.newest_checkpoint.path)}")
    if view.state in ENDED_EARLY:
        say(f"  next         {neutral(next_step(view), 1000)}")
    if view.booking:
        say(f"  time         {book.line(view.booking)}")
    if view.ranks:
        screen.print()
        screen.print(_ranks(view))
    if view.booking and len(view.booking.lives) > 1:
        screen.print()
        book.print_generations(view.booking, out, phases=False)


def print_epochs(view: RunView, out: TextIO) -> None:
    """The epochs of a run, one a row. Images/s count training, not validation; each worker does an equal share.

    The model's own metrics come last, in further tables where the screen is too narrow.
    """
    workers = {g.generation: len(g.ranks) for g in view.generations}
    epochs = view.epochs
    columns = [
        ("loss", [real(epoch.loss) for epoch in epochs]),
        ("accuracy", [real(epoch.accuracy) for epoch in epochs]),
        ("val_loss", [real(epoch.val_loss) for epoch in epochs]),
        ("val_accuracy", [real(epoch.val_accuracy) for epoch in epochs]),
        ("time", [seconds(epoch.seconds) for epoch in epochs]),
        ("images/s", [whole(epoch.images_per_second) for epoch in epochs]),
        ("per worker", [whole(_per_worker(e, workers.get(e.generation) or view.workers)) for e in epochs]),
    ]
    usual = len(columns)
    for name, shown in own_metrics(epochs).items():
        columns.append((neutral(shown, 40), [real(epoch.metrics.get(name)) for epoch in epochs]))
    first = ("epoch", [str(epoch.epoch) for epoch in epochs])
    screen = console(out)
    for part in _parts(first, columns, usual, screen.width):
        table = table_of([name for name, _ in part], right=len(part))
        for row in zip(*(cells for _, cells in part), strict=True):
            table.add_row(*row)
        screen.print(table)


def _parts(first: _Column, columns: Sequence[_Column], together: int, width: int) -> list[list[_Column]]:
    """The columns in tables that fit, each beginning with `first`; so many of them stay together whatever the width."""
    parts = [[first, *columns[:together]]]
    for column in columns[together:]:
        if sum(map(_width, [*parts[-1], column])) > width:
            parts.append([first])
        parts[-1].append(column)
    return parts


def _width(column: _Column) -> int:
    name, cells = column
    return GAP + max(map(len, [name, *cells]))


def _ranks(view: RunView) -> Table:
    table = table_of(("rank", "host", "pid", "state", "epoch", "step", "images/s", "loss"), right=4)
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
