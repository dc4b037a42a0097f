"""The live screen: a table of the ranks and a bar below, what workers print and what happens scrolls by above.

Whatever scrolled by stays in the terminal's history; the table and the bar are gone when the view ends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table
from rich.text import Text

from launcher.runs.model import RankView, RunView
from launcher.view.figures import COLOURS, NONE, PREFIX_COLOURS, real, seconds, whole
from launcher.view.lines import LogLine, prefix
from launcher.view.pace import Pace
from launcher.view.text import neutral
from worker.contract.states import RankState

REFRESH_S = 0.45  # between two drawings; what workers print is drawn at once
_RANK_COLOURS = {
    RankState.TRAINING: "cyan",
    RankState.FINISHED: "green",
    RankState.FAILED: "bold red",
    RankState.UNKILLABLE: "bold red",
    RankState.STOPPING: "yellow",
    RankState.STOPPED: "yellow",
    RankState.RESCUED: "yellow",
}


class LiveScreen:
    """Draws with rich on one console. Draws at most twice a second, and nothing when nothing has changed."""

    most_behind: int | None = 1 << 18

    def __init__(self, console: Console, *, hint: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._hint = hint
        self._clock = clock
        self._pace = Pace()
        self._live: Live | None = None
        self._shown: tuple[RunView, int] | None = None
        self._drawn_at = float("-inf")

    def note(self, text: str) -> None:
        self._above(Text.assemble(("launcher ", "bold"), neutral(text)))

    def lines(self, lines: Sequence[LogLine]) -> None:
        if lines:
            self._above(Text("\n").join(_line(line) for line in lines))

    def show(self, view: RunView) -> None:
        now = self._clock()
        step, steps = _done(view)
        if step is not None:
            self._pace.saw(now, step)
        # Elapsed time moves once a second, even when nothing else does.
        state = (view, int(now))
        if state == self._shown or now - self._drawn_at < REFRESH_S:
            return
        self._shown, self._drawn_at = state, now
        left = self._pace.seconds_left(now, steps) if steps else None
        self._started().update(screen(view, self._console, left, self._hint), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _started(self) -> Live:
        if self._live is None:
            # Redirecting would let other threads' prints draw in the middle of a frame.
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        return self._live

    def _above(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


def screen(view: RunView, console: Console, left: float | None, hint: str = "") -> RenderableType:
    """The lower part of the screen: name and state, the ranks, the bar."""
    most = max(3, console.height // 2)
    parts: list[RenderableType] = [Text(), _header(view), _ranks(view.ranks[:most], view.epochs_planned)]
    if hidden := view.ranks[most:]:
        counts = ", ".join(f"{n} {state}" for state, n in Counter(str(rank.state) for rank in hidden).items())
        parts.append(Text(f"… and {len(hidden)} more: {counts}", style="dim", no_wrap=True, overflow="ellipsis"))
    step, steps = _done(view)
    if step is not None and steps:
        parts.append(_bar(step, steps, left, console.width))
    if hint:
        parts.append(Text(hint, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _line(line: LogLine) -> Text:
    colour = PREFIX_COLOURS[line.rank % len(PREFIX_COLOURS)]
    return Text.assemble((prefix(line), colour), " ", line.text)


def _header(view: RunView) -> Text:
    passed = None if view.started_at is None else (view.ended_at or time.time()) - view.started_at
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(neutral(view.run, 80), style="bold")
    text.append("  ").append(str(view.state), style=COLOURS.get(view.state, ""))
    if view.generation > 1:
        text.append(f"  generation {view.generation}")
    text.append(f"  {seconds(passed)}")
    if view.by_agents:
        text.append("  the coordinator is gone", style="bold red")
    if view.epochs and (accuracy := view.epochs[-1].val_accuracy) is not None:
        text.append(f"  val_accuracy {real(accuracy)} after epoch {view.epochs[-1].epoch}")
    return text


def _ranks(ranks: Sequence[RankView], epochs: int | None) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    # Widths that do not follow every value: a table whose columns jump cannot be read.
    for name, width in (("rank", 4), ("host", 4), ("state", 9)):
        table.add_column(name, min_width=width, no_wrap=True, overflow="ellipsis")
    for name, width in (("epoch", 6), ("step", 9), ("images/s", 9), ("loss", 7)):
        table.add_column(name, min_width=width, justify="right", no_wrap=True)
    for rank in ranks:
        table.add_row(*_row(rank, epochs))
    return table


def _row(rank: RankView, epochs: int | None) -> tuple[RenderableType, ...]:
    of = f"/{epochs}" if epochs else ""
    return (
        Text(f"r{rank.rank}", style=Style(color=PREFIX_COLOURS[rank.rank % len(PREFIX_COLOURS)])),
        Text(neutral(rank.host, 40)),
        Text(str(rank.state), style=_RANK_COLOURS.get(rank.state, "")),
        Text(f"{rank.epoch}{of}" if rank.epoch is not None else NONE),
        Text(whole(rank.step)),
        Text(whole(rank.images_per_second)),
        Text(real(rank.loss)),
    )


def _done(view: RunView) -> tuple[int | None, int | None]:
    """The step that all ranks have done, and how many there are; None where nobody has told yet."""
    told = [(rank.step, rank.steps) for rank in view.ranks if rank.step is not None and (rank.steps or 0) > 0]
    return min(told, default=(None, None), key=lambda pair: pair[0] or 0)


def _bar(step: int, steps: int, left: float | None, width: int) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    rest = "" if left is None else f"{seconds(left)} left" if step < steps else ""
    grid.add_row(
        ProgressBar(
            total=steps,
            completed=min(step, steps),
            width=max(10, min(50, width - 50)),
            complete_style="cyan",
            finished_style="green",
        ),
        Text(f"{100 * min(step, steps) // steps} %", no_wrap=True),
        Text(f"{step:,}/{steps:,} steps", no_wrap=True),
        Text(rest, no_wrap=True),
    )
    return grid
