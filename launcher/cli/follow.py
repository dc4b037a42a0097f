"""Show a run until it ends, and what Ctrl-C, a hang-up and SIGTERM mean meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from launcher.runs.folder import RunFolder
from worker.contract.states import EXIT_CODE_OF, RUN_ENDED, ExitCode

if TYPE_CHECKING:
    from launcher.view.follow import Follower, Screen

TURN_S = 0.1
REPORT_S = 30.0

Left = Literal["ended", "detached"]


@dataclass
class _Wishes:
    """What signals have asked for since the view was opened."""

    stops: int = 0
    hang_up: bool = False
    by: list[str] = field(default_factory=list)


def follow(run: RunFolder, *, plain: bool, verbose: bool, owns: bool) -> int:
    """Show the run until it has ended; returns the command's exit code.

    With `owns` (`up`, `resume`) Ctrl-C or SIGTERM stops the run gracefully and a second one at once; without it
    (`attach`) they only leave the view. A hang-up always detaches.
    """
    from launcher.runs.read import read_run
    from launcher.view.ending import print_ending
    from launcher.view.follow import Follower, screen_for

    hint = "Ctrl-C stops the run" if owns else "Ctrl-C leaves the view"
    screen = screen_for(sys.stdout, plain=plain, hint=f"{hint}; closed, it goes on: launcher attach {run.name}")
    with _signals() as wishes:
        if screen.most_behind is None:  # plain lines: there is no line below that could say it all the time
            screen.note(f"run {run.name} ({hint}; closed, it goes on: launcher attach {run.name})")
        follower = Follower(run, screen, verbose=verbose, past_coordinator=True)
        try:
            left = _watch(run, follower, screen, wishes, owns=owns)
        finally:
            with contextlib.suppress(OSError):
                follower.close()
        if left == "detached":
            _say_how_to_come_back(run)
            return int(ExitCode.TRAINED)
        _await_report(run)
    view = read_run(run)
    print_ending(view, sys.stdout, report=_report_files(run))
    return int(EXIT_CODE_OF[view.state]) if view.state in RUN_ENDED else int(ExitCode.FAILED)


def _watch(run: RunFolder, follower: Follower, screen: Screen, wishes: _Wishes, *, owns: bool) -> Left:
    heard = 0
    told_of_death = not owns  # `attach` has said it before the view began
    while follower.step():
        if wishes.hang_up or (wishes.stops and not owns):
            return "detached"
        if follower.view.by_agents and not told_of_death:
            told_of_death = True
            screen.note(f"the coordinator is gone; training goes on under its lease (end it: launcher down {run.name})")
        if wishes.stops > heard:
            heard = wishes.stops
            _ask_to_stop(run, screen, "graceful" if heard == 1 else "now", wishes.by[-1])
        time.sleep(TURN_S)
    return "ended"


def _ask_to_stop(run: RunFolder, screen: Screen, how: str, by: str) -> None:
    from launcher.supervise.stop import stop

    what = "stopping: a checkpoint is saved first; again to stop at once" if how == "graceful" else "stopping at once"
    screen.note(f"{by}: {what}")
    if not stop(run, how, by):
        screen.note("neither a coordinator nor an agent of this run answers; `launcher ps` shows what is alive")


def _say_how_to_come_back(run: RunFolder) -> None:
    # The terminal may be gone: whoever closed it is told by the next `launcher list`.
    with contextlib.suppress(OSError):
        print(f"\nDetached: {run.name} goes on without this terminal.")
        print(f"  see it again: launcher attach {run.name}\n  end it:       launcher down {run.name}", flush=True)


def _await_report(run: RunFolder) -> None:
    """The coordinator draws the report after the end is written down; wait for it to be done."""
    from launcher.runs.alive import coordinates

    deadline = time.monotonic() + REPORT_S
    while coordinates(run) and time.monotonic() < deadline:
        time.sleep(0.03)


def _report_files(run: RunFolder) -> list[Path]:
    names = ("loss.png", "accuracy.png", "metrics.csv", "metrics.json")
    return [run.report / name for name in names if (run.report / name).exists()]


@contextlib.contextmanager
def _signals() -> Iterator[_Wishes]:
    wishes = _Wishes()

    def stop(number: int, _: object) -> None:
        wishes.stops += 1
        wishes.by.append("Ctrl-C" if number == signal.SIGINT else "SIGTERM")

    def hang_up(*_: object) -> None:
        wishes.hang_up = True
        # Nothing may be written to a terminal that is gone, not even by a library at its end.
        nothing = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(nothing, descriptor)
        os.close(nothing)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, stop),
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
        signal.SIGHUP: signal.signal(signal.SIGHUP, hang_up),
    }
    try:
        yield wishes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
