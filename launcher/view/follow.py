"""Following a run from its files, on whatever screen, until it has ended or its coordinator is gone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TextIO

from launcher.runs.alive import who_lives
from launcher.runs.folder import RunFolder
from launcher.runs.model import RunView
from launcher.runs.read import Probe, RunReader
from launcher.view.alike import folded
from launcher.view.lines import LogLine, LogReader
from launcher.view.notes import notes, state_line

POLL_S = 0.1


class Screen(Protocol):
    """Where a run is shown."""

    most_behind: int | None  # how many bytes of a log may wait to be shown; None: all are shown

    def note(self, text: str) -> None:
        """Something happened to the run."""

    def lines(self, lines: Sequence[LogLine]) -> None:
        """Workers printed these."""

    def show(self, view: RunView) -> None:
        """How the run stands now; called at every poll."""

    def close(self) -> None:
        """Leave the terminal as it was. May be called twice."""


class Follower:
    """Follows one run. An exception out of `step` or `run` (a KeyboardInterrupt) loses nothing: call again to go on.

    `last`: begin with so many lines of each log, and with what happens from now on; else with the run's beginning.
    `past_coordinator`: go on while only the agents are there, until the run has ended (as `logs -f` does).
    """

    def __init__(
        self,
        folder: RunFolder,
        screen: Screen,
        *,
        verbose: bool = False,
        rank: int | None = None,
        last: int | None = None,
        past_coordinator: bool = False,
        probe: Probe = who_lives,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = RunReader(folder, probe, clock)
        self._logs = LogReader(folder, rank=rank, verbose=verbose, last=last, most_behind=screen.most_behind)
        self._verbose = verbose
        self._screen = screen
        self._from_now = last is not None
        self._past_coordinator = past_coordinator
        self._known: RunView | None = None
        self._notes: deque[str] = deque()
        self._lines: list[LogLine] = []
        self._catches_up = False

    @property
    def view(self) -> RunView:
        """How the run stood at the last look."""
        return self._known if self._known is not None else self._reader.poll()

    def step(self) -> bool:
        """Look once and show what is new; False when there is nothing more to follow."""
        # What was read is held until it is shown, so that an interrupt in between loses no line.
        view = self._reader.poll()
        if not self._lines:
            found = self._logs.poll(view)
            self._lines = found if self._verbose else folded(found)
        found_lines = bool(self._lines)
        self._notes.extend(self._news(view))
        self._known = view
        self._screen.lines(self._lines)
        self._lines = []
        while self._notes:
            self._screen.note(self._notes[0])
            self._notes.popleft()
        self._screen.show(view)
        self._catches_up = found_lines and view.ended
        if view.ended:
            return found_lines or not self._logs.over(view)
        return self._past_coordinator or not view.by_agents

    def run(self, wait: Callable[[float], None] = time.sleep) -> RunView:
        """Follow until there is nothing more to follow; returns how the run stands then."""
        while self.step():
            if not self._catches_up:
                wait(POLL_S)
        return self.view

    def close(self) -> None:
        """Leave the screen as it was. May be called twice."""
        self._screen.close()

    def _news(self, view: RunView) -> Iterable[str]:
        if self._known is None and self._from_now:
            return [state_line(view)]
        return notes(self._known, view)


def follower(
    folder: RunFolder,
    out: TextIO,
    *,
    plain: bool = False,
    verbose: bool = False,
    last: int | None = None,
    hint: str = "",
) -> Follower:
    """A Follower with the live screen on a terminal, and with plain prefixed lines elsewhere or with `plain`.

    `hint` stands below the live screen: what Ctrl-C does.
    """
    return Follower(folder, screen_for(out, plain=plain, hint=hint), verbose=verbose, last=last)


def screen_for(out: TextIO, *, plain: bool, hint: str = "") -> Screen:
    """The live screen for a terminal that can show it, else plain lines."""
    from launcher.view.plain import PlainScreen

    if plain or not out.isatty():
        return PlainScreen(out)
    from rich.console import Console

    from launcher.view.live import LiveScreen

    console = Console(file=out, highlight=False, markup=False, emoji=False)
    return PlainScreen(out) if console.is_dumb_terminal else LiveScreen(console, hint=hint)
