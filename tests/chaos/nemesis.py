"""Runs a history: starts the run, strikes when the moment of each fault has come, and sees it to its end."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.deeds import Deed, Deeds, NoTargetError, Ready
from tests.chaos.grounds import Scene
from tests.chaos.plan import Fault, History, Kind, When
from tests.chaos.seen import Seen

TURN_S = 0.015
STUCK_S = 100.0  # without a word from anybody; all timeouts of the spec are shorter
PATIENCE_S = 12.0  # for the target of a fault to be there (again)
LONGEST_S = 300.0


@dataclass
class Strike:
    """A fault that was struck."""

    fault: Fault
    t: float
    generation: int
    step: int
    undone: float | None = None

    def as_record(self) -> dict[str, Any]:
        record = asdict(self)
        record.update(kind=self.fault.kind.name, host=self.fault.host, rank=self.fault.rank)
        record["fault"] = str(self.fault)
        return record


@dataclass
class Course:
    """How a history went, as far as the nemesis can tell."""

    strikes: list[Strike] = field(default_factory=list)
    passed_over: list[Fault] = field(default_factory=list)  # whose moment never came, or whose target was not there
    codes: list[int | None] = field(default_factory=list)  # of `up` (and `resume`), in order
    stuck: str = ""
    seconds: float = 0.0
    generations: int = 0


@dataclass
class _Pending:
    strike: Strike
    deed: Deed
    ready: Ready


class Nemesis:
    """One history, in one scene."""

    def __init__(self, scene: Scene, history: History, tell: Callable[[str], None]) -> None:
        self._scene = scene
        self._history = history
        self._tell = tell
        self._chance = random.Random(f"stop {history.name}")
        self._views: list[subprocess.Popen[bytes]] = []
        self._pending: list[_Pending] = []
        self.course = Course()

    def run(self) -> Course:
        """From `up` to the end of the last command; returns when the run has ended, or is stuck."""
        begun = time.monotonic()
        launcher, course = self._scene.launcher, self.course
        self._views.append(launcher.start("up", str(self._scene.spec()), "--plain"))
        self._seen = Seen(self._scene)
        self._deeds = Deeds(self._scene, self._seen, self._views)
        self._news = self._began = begun
        faults = list(self._history.faults)
        half = len(faults) // 2
        try:
            self._turns(self._first_steps)
            for number, fault in enumerate(faults):
                self._resumed()
                if self._history.stop and number == half and not self._over():
                    self._stop_and_resume()
                self._await_and_strike(fault)
            self._turns(lambda: not self._pending)
            self._turns(lambda: False)
            while self._resumed():
                self._turns(lambda: False)
        except _StuckError as stuck:
            course.stuck = str(stuck)
        finally:
            self._undo_all()
        course.codes.append(self._views[-1].poll())
        course.generations = self._seen.generation
        course.seconds = time.monotonic() - begun
        return course

    # Moments.

    def _first_steps(self) -> bool:
        """Faults begin once workers were started everywhere."""
        return self._seen.begun

    def _over(self) -> bool:
        """Whether the command has ended that waits for the run; of a run without a coordinator it knows nothing."""
        return self._views[-1].poll() is not None and not self._pending_of(Kind.KILL_COORDINATOR)

    def _moment(self, fault: Fault) -> Callable[[], bool]:
        seen, step = self._seen, self._seen.step
        saved, restarts = len(seen.of_hosts("checkpoint")), len(seen.of_run("restart"))
        starts = len(seen.of_hosts("rank_started"))
        total = self._history.steps

        def come() -> bool:
            if fault.when is When.STEPS:
                return seen.step >= min(step + fault.count, total - 1)
            if fault.when is When.SAVED:
                return len(seen.of_hosts("checkpoint")) >= saved + fault.count or seen.step >= total - 1
            if fault.when is When.ENDING:
                return seen.step >= total - fault.count
            if fault.when is When.RESTARTING:
                return len(seen.of_run("restart")) > restarts
            if fault.when is When.STARTING:
                return len(seen.of_hosts("rank_started")) > starts
            return True

        return come

    def _await_and_strike(self, fault: Fault) -> None:
        if not self._turns(self._moment(fault)):
            self.course.passed_over.append(fault)
            return
        struck_from = time.monotonic() + fault.pause_s
        self._turns(lambda: time.monotonic() >= struck_from)
        until = time.monotonic() + PATIENCE_S

        def done() -> bool:
            return self._strike(fault) or time.monotonic() > until

        before = len(self.course.strikes)
        self._turns(done)
        if len(self.course.strikes) == before:
            self.course.passed_over.append(fault)

    def _strike(self, fault: Fault) -> bool:
        """Whether it hit."""
        if self._over() or (fault.kind is Kind.KILL_COORDINATOR and self._pending_of(fault.kind)):
            return False
        strike = Strike(fault, time.time(), self._seen.generation, self._seen.step)
        try:
            deed = self._deeds.do(fault)
            ready = next(deed)
        except NoTargetError:
            return False
        self.course.strikes.append(strike)
        self._pending.append(_Pending(strike, deed, ready))
        self._tell(f"{fault} (life {strike.generation}, step {strike.step})")
        return True

    def _pending_of(self, kind: Kind) -> bool:
        return any(pending.strike.fault.kind is kind for pending in self._pending)

    def _stop_and_resume(self) -> None:
        """`down` in the middle, once all is well, then `resume`."""
        if not self._turns(lambda: not self._pending):
            return
        seen, launcher = self._seen, self._scene.launcher
        wanted = seen.step + 2
        if not self._turns(lambda: seen.step >= wanted):
            return
        done = launcher.run("down", self._scene.run.name, check=None, timeout_s=90)
        self._tell(f"down: {done.returncode}")
        self._turns(lambda: False)
        self._resumed()

    def _resumed(self) -> bool:
        """Resume a run that has ended as it might, and is not done; whether it was."""
        code, seen = self._views[-1].poll(), self._seen
        if not self._over() or code not in self._history.interruptions or len(self.course.codes) > 3:
            return False
        self.course.codes.append(code)
        lives = len(seen.of_run("generation_started"))
        more = ("--set", "restart.max=100", "--set", "timeouts.lease=1 h")
        self._views.append(self._scene.launcher.start("resume", self._scene.run.name, "--plain", *more))
        self._tell(f"resumed after exit code {code}")
        self._turns(lambda: len(seen.of_run("generation_started")) > lives)
        return True

    # Turns.

    def _turns(self, until: Callable[[], bool]) -> bool:
        """Look, undo what is due, and wait for `until`; False once the run's command has ended."""
        while True:
            if self._seen.look():
                self._news = time.monotonic()
            self._undo_due()
            if self._over():
                return False
            if until():
                return True
            now = time.monotonic()
            if now - self._news > STUCK_S or now - self._began > LONGEST_S:
                raise _StuckError(f"nothing new for {now - self._news:.0f} s, {now - self._began:.0f} s after `up`")
            time.sleep(TURN_S)

    def _undo_due(self) -> None:
        for pending in list(self._pending):
            if pending.ready() or self._over():
                self._go_on(pending)

    def _go_on(self, pending: _Pending) -> None:
        try:
            pending.ready = next(pending.deed)
            return
        except NoTargetError:
            self.course.strikes.remove(pending.strike)
            self.course.passed_over.append(pending.strike.fault)
        except StopIteration:
            pending.strike.undone = time.time()
        self._pending.remove(pending)

    def _undo_all(self) -> None:
        while self._pending:
            pending = self._pending[0]
            with contextlib.suppress(OSError):
                self._go_on(pending)
        for view in self._views:
            if not self.course.stuck:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    view.wait(30)
            if view.poll() is None:
                view.send_signal(signal.SIGTERM)
                view.wait(10)

    def write_down(self, path: Path) -> None:
        """The strikes, for the checker."""
        path.write_text("".join(json.dumps(strike.as_record()) + "\n" for strike in self.course.strikes))


class _StuckError(Exception):
    """Nobody says anything any more."""
