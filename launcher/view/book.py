"""What a run's time was spent on, and its generations: as a line and as tables."""

from __future__ import annotations

from typing import TextIO

from launcher.runs.ledger import Booking, Life, Use
from launcher.view.figures import NONE, moment, seconds, whole
from launcher.view.rows import print_rows
from launcher.view.values import after_s

LEAST_SHARE = 0.1  # per cent: what is less is left out of a line
MOST_ON_A_SCREEN = 10


def line(book: Booking) -> str:
    """`59.4 s: start 56.0 %, training 42.7 %, rescue 0.6 %; goodput 55.7 %`; the largest first."""
    shares = sorted(book.shares().items(), key=lambda item: -item[1])
    told = ", ".join(f"{use} {share:.1f} %" for use, share in shares if share >= LEAST_SHARE)
    return f"{seconds(book.total_ms / 1000)}{f': {told}' if told else ''}; goodput {percent(book.goodput)}"


def percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"


def print_time(book: Booking, out: TextIO) -> None:
    """A row for each heading that there is time under, and the sum."""
    shares = book.shares()
    rows = [
        (str(use), _exact(book.spent.get(use, 0)), f"{shares[use]:.1f} %", use.prose)
        for use in Use
        if book.spent.get(use, 0)
    ]
    rows.append(("in all", _exact(book.total_ms), f"{sum(shares.values()):.1f} %", _goodput(book)))
    print_rows(("time", "spent", "share", ""), rows, out, right=(1, 2))


def _goodput(book: Booking) -> str:
    if book.until_first_step_ms is None:
        return "no step was done"
    after = seconds(book.until_first_step_ms / 1000)
    return f"goodput {percent(book.goodput)}: training's share of what came after the first step, at {after}"


def print_generations(book: Booking, out: TextIO, *, phases: bool = True) -> None:
    """A row for each generation; with `phases`, a second table of what the time of each was spent on."""
    lives = book.lives if phases else book.lives[-MOST_ON_A_SCREEN:]
    rows = [_row(life) for life in lives]
    print_rows(
        ("generation", "began", "from", "workers", "first step after", "steps", "lasted", "why it ended"),
        rows,
        out,
        right=(4, 5, 6),
    )
    if not phases:
        return
    used = [use for use in Use if any(life.spent.get(use) for life in lives)]
    print("", file=out)
    cells = [(str(life.generation), *(_exact(life.spent.get(use, 0)) for use in used)) for life in lives]
    print_rows(("generation", *map(str, used)), cells, out, right=tuple(range(1, len(used) + 1)))


def _row(life: Life) -> tuple[str, ...]:
    hosts = life.hosts[0] if len(life.hosts) == 1 else f"{len(life.hosts)} hosts"
    return (
        str(life.generation),
        moment(life.began_at),
        life.resumes or "the beginning",
        f"{life.workers} on {hosts}",
        seconds(after_s(life.began_at, life.first_step_at)),
        _steps(life),
        seconds(after_s(life.began_at, life.ended_at)),
        life.reason or NONE,
    )


def _steps(life: Life) -> str:
    if life.reached is None or life.from_step is None:
        return NONE
    again = f", {whole(life.done_again)} again" if life.done_again else ""
    return whole(max(0, life.reached - life.from_step)) + again


def _exact(amount_ms: int) -> str:
    """Short times to the millisecond: a restart is one."""
    return NONE if not amount_ms else f"{amount_ms / 1000:.3f} s" if amount_ms < 10_000 else seconds(amount_ms / 1000)
