"""The processes of a generation as the agent's loop sees them: started, heard of through their files, reaped."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from typing import Callable, Dict, List, Optional

from ..contract.layout import HostFolder
from ..contract.states import WorkerExit
from . import processes
from .events import Event, Exited, NotStarted, Started, Stuck, Swept, Told
from .orders import RankOrder
from .spawn import MOST_WORDS, Child, SpawnError, last_words, spawn
from .tail import Tail

POLL_S = 0.2
STOP_LINE = b'{"type":"stop"}\n'
STUCK_S = 10.0
_SWEEP_PAUSES = (0.002, 0.1)
_PIECES_A_TURN = 4


class _Worker:
    def __init__(self, rank: int, child: Child, tail: Tail) -> None:
        self.rank = rank
        self.child = child
        self.tail = tail
        self.started: Optional[bool] = None  # None: its exec is under way
        self.status: Optional[int] = None  # of its wait, once it is reaped
        self.told = False  # of its end


class Workers:
    """Every worker of the newest generation. `tell` is called with what happened; no method blocks or raises."""

    def __init__(
        self, place: HostFolder, mark: str, selector: selectors.BaseSelector, tell: Callable[[Event], None]
    ) -> None:
        self._place = place
        self._mark = mark
        self._selector = selector
        self._tell = tell
        self._workers: Dict[int, _Worker] = {}
        self._poll_at = 0.0
        self._sweeping_since: Optional[float] = None
        self._pause = _SWEEP_PAUSES[0]
        self._stuck_told = False

    def spawn(self, order: RankOrder, generation: int) -> None:
        """Start a rank. What it was in an earlier generation is forgotten: by then nothing of it is left."""
        try:
            child = spawn(order, generation, self._place, self._mark, os.environ)
        except SpawnError as error:
            self._tell(NotStarted(order.rank, error.message, error.hint))
            return
        worker = _Worker(order.rank, child, Tail(self._place.progress(generation, order.rank)))
        self._workers[order.rank] = worker
        self._selector.register(child.words, selectors.EVENT_READ, lambda _: self._hear(worker))

    def ask(self, rank: int) -> None:
        """Ask a rank to stop. If it does not read its pipe, its deadline will see to it."""
        worker = self._workers.get(rank)
        if worker is not None and worker.child.control is not None:
            with contextlib.suppress(OSError):
                os.write(worker.child.control, STOP_LINE)

    def kill(self, rank: int, number: signal.Signals) -> None:
        """Signal a rank that is not reaped yet, so that its pid is its own, and its group or all of its descendants."""
        worker = self._workers.get(rank)
        if worker is None or worker.status is not None:
            return
        below = processes.descendants(worker.child.pid) if number == signal.SIGKILL else []
        try:
            os.killpg(worker.child.pid, number)
        except OSError:  # it has not made its group yet
            with contextlib.suppress(OSError):
                os.kill(worker.child.pid, number)
        for process in below:
            processes.kill(process)

    def sweep(self, now: float) -> None:
        """Begin to kill whatever is left below us; Swept is told once nothing is."""
        self._sweeping_since = now
        self._pause = _SWEEP_PAUSES[0]
        self._stuck_told = False

    def wait(self, now: float) -> float:
        """In how many seconds `look` is due."""
        if self._sweeping_since is not None:
            return self._pause
        if any(worker.status is not None and not worker.told for worker in self._workers.values()):
            return 0.0
        if any(worker.status is None for worker in self._workers.values()):
            return max(0.0, self._poll_at - now)
        return 1.0

    def look(self, now: float) -> None:
        """Once a turn: who has ended, what the progress files say, what is left of a sweep."""
        childless = self._reap()
        ended = [worker for worker in self._workers.values() if worker.status is not None and not worker.told]
        # What becomes of the others when one has failed depends on how far they are.
        if now >= self._poll_at or ended:
            self._poll_at = now + POLL_S
            for worker in self._workers.values():
                if worker.status is None and worker.started:
                    self._read_on(worker, 1)
        for worker in sorted(ended, key=_first_causes):
            self._conclude(worker)
        if self._sweeping_since is not None:
            self._sweep_on(childless, now)

    def _hear(self, worker: _Worker) -> None:
        """The child's last words before its program, or the silence that says that the exec succeeded."""
        if worker.started is not None:
            return
        try:
            words = os.read(worker.child.words, MOST_WORDS)
        except BlockingIOError:
            return
        self._selector.unregister(worker.child.words)
        os.close(worker.child.words)
        worker.started = not words
        if worker.started:
            self._tell(Started(worker.rank, worker.child.pid, worker.child.start_time))
        else:
            error = last_words(words)
            self._tell(NotStarted(worker.rank, error.message, error.hint))

    def _reap(self) -> bool:
        """Take the status of whoever has ended, orphans that came to us included; True if no child is left."""
        by_pid = {worker.child.pid: worker for worker in self._workers.values() if worker.status is None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid in by_pid:
                by_pid[pid].status = status

    def _read_on(self, worker: _Worker, pieces: int) -> None:
        for _ in range(pieces):
            for record in worker.tail.take(exited=worker.status is not None):
                self._tell(Told(worker.rank, record))
            if worker.tail.drained:
                break

    def _conclude(self, worker: _Worker) -> None:
        """Tell of an end, after all that the rank had told: a checkpoint may be the last of it."""
        self._hear(worker)
        if worker.started:
            self._read_on(worker, _PIECES_A_TURN)
            if not worker.tail.drained:
                return
            self._tell(_exit_of(worker.rank, worker.status or 0))
        worker.told = True
        worker.tail.close()
        if worker.child.control is not None:
            os.close(worker.child.control)
            worker.child.control = None

    def _sweep_on(self, childless: bool, now: float) -> None:
        if childless:
            self._sweeping_since = None
            self._tell(Swept())
            return
        left = processes.descendants(os.getpid())
        for process in left:
            processes.kill(process)
        self._pause = min(self._pause * 1.5, _SWEEP_PAUSES[1])
        if now >= (self._sweeping_since or now) + STUCK_S and not self._stuck_told:
            self._stuck_told = True
            self._tell(Stuck([process.pid for process in left]))


def _exit_of(rank: int, status: int) -> Exited:
    if not os.WIFSIGNALED(status):
        return Exited(rank, exit_code=os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    try:
        return Exited(rank, signal=signal.Signals(number).name)
    except ValueError:  # a real-time signal
        return Exited(rank, signal=f"signal {number}")


def _first_causes(worker: _Worker) -> List[int]:
    """Of ends found in one turn, who was killed goes first, then who failed: the others are likely their victims."""
    status = worker.status or 0
    if os.WIFSIGNALED(status):
        return [0, worker.rank]
    code = os.WEXITSTATUS(status)
    return [3 if code == 0 else 2 if code in (WorkerExit.RESCUED, WorkerExit.STOPPED) else 1, worker.rank]
