"""The processes of a generation as the agent's loop sees them: started, heard of through their files, reaped."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from typing import Callable, Dict, List, Optional, Union

from ..contract import records
from ..contract.layout import HostFolder
from ..contract.states import WorkerExit
from . import processes
from .events import Event, Exited, NotStarted, Spawn, Started, Stuck, Swept, Told
from .oom import KillRecords
from .orders import RankOrder
from .processes import Process
from .spawn import MOST_WORDS, Berth, Child, SpawnError, last_words, prepare, spawn
from .stacks import raised
from .tail import Tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kept import Kept, Zygote
    from .zygote import Nursery

POLL_S = 0.2
STOP_LINE = b'{"type":"stop"}\n'
LOSS_LINE = b'{"type":"peer_lost"}\n'
STUCK_S = 10.0
_SWEEP_PAUSES = (0.002, 0.1)
_PIECES_A_TURN = 4
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})


class _Worker:
    def __init__(self, order: RankOrder, berth: Berth, tail: Tail, log: str) -> None:
        self.order = order
        self.log = log
        self.rank = order.rank
        self.berth = berth
        self.tail = tail
        self.child: Optional[Child] = None  # None: a zygote was asked for it
        self.started: Optional[bool] = None  # None: its exec is under way
        self.status: Optional[int] = None  # of its wait, once it is reaped
        self.told = False  # of its end
        self.killed = False  # by us
        self.cold = ""  # why it was not forked off a zygote
        self.forked = False
        self.stepped = False

    def close(self) -> None:
        self.tail.close()
        self.berth.close()
        if self.berth.control is not None:
            os.close(self.berth.control)
            self.berth.control = None


class _NoNursery:
    """As long as no rank was to be forked."""

    pid: Optional[int] = None
    busy = False

    def cancel(self, rank: int) -> None: ...

    def distrust(self, why: str) -> None: ...

    def reaped(self, pid: int, status: int) -> None: ...

    def look(self) -> None: ...

    def wait(self) -> float:
        return float("inf")

    def give_up(self) -> Optional[Zygote]:
        return None

    def close(self) -> None: ...


class Workers:
    """Every worker of the newest generation. `tell` is called with what happened; no method blocks or raises."""

    def __init__(
        self,
        place: HostFolder,
        mark: str,
        selector: selectors.BaseSelector,
        tell: Callable[[Event], None],
        warm: bool = False,
        kept: Optional[Kept] = None,
    ) -> None:
        self._place = place
        self._mark = mark
        self._selector = selector
        self._tell = tell
        self._workers: Dict[int, _Worker] = {}
        self._poll_at = 0.0
        self._records = KillRecords()
        self._sweeping_since: Optional[float] = None
        self._pause = _SWEEP_PAUSES[0]
        self._stuck_told = False
        self._strangers: Dict[int, int] = {}  # statuses of children that may turn out to be forked ranks
        self._nursery: Union[Nursery, _NoNursery] = _NoNursery()
        self._warm = warm
        if kept is not None:
            self._made_nursery(kept)

    def spawn(self, do: Spawn) -> None:
        """Start a rank. What it was in an earlier generation is forgotten: by then nothing of it is left."""
        order, generation = do.order, do.generation
        try:
            berth = prepare(order, generation, self._place, self._mark, os.environ)
        except SpawnError as error:
            self._tell(NotStarted(order.rank, error.message, error.hint))
            return
        worker = _Worker(
            order, berth, Tail(self._place.progress(generation, order.rank)), self._place.log(generation, order.rank)
        )
        self._workers[order.rank] = worker
        why = self._made_nursery().ask(order, berth, do.wait_s) if do.zygote else ""
        if why or not do.zygote:
            self._start_cold(worker, why)

    def _made_nursery(self, kept: Optional[Kept] = None) -> Nursery:
        if isinstance(self._nursery, _NoNursery):
            from .zygote import Callbacks, Nursery  # an agent of programs need not import it

            callbacks = Callbacks(self._born, self._not_born, self._tell)
            self._nursery = Nursery(self._place.zygote_log, self._selector, callbacks, self._warm, kept)
        return self._nursery

    def ask(self, rank: int) -> None:
        """Ask a rank to stop. If it does not read its pipe, its deadline will see to it."""
        self._write_to(rank, STOP_LINE)

    def tell_of_loss(self, rank: int) -> None:
        """Tell a rank that another one is gone."""
        self._write_to(rank, LOSS_LINE)

    def _write_to(self, rank: int, line: bytes) -> None:
        worker = self._workers.get(rank)
        if worker is not None and worker.berth.control is not None:
            with contextlib.suppress(OSError):
                os.write(worker.berth.control, line)

    def kill(self, rank: int, number: signal.Signals) -> None:
        """Signal a rank that is not reaped yet, so that its pid is its own, and its group or all of its descendants."""
        worker = self._workers.get(rank)
        if worker is None or worker.status is not None or worker.told:
            return
        if worker.child is None:  # it is not born yet, and need not be any more
            self._nursery.cancel(rank)
            worker.told = True
            worker.close()
            self._tell(Exited(rank, signal=number.name))
            return
        pid = worker.child.pid
        worker.killed = worker.killed or number == signal.SIGKILL
        below = processes.descendants(pid) if number == signal.SIGKILL else []
        try:
            os.killpg(pid, number)
        except OSError:  # it has not made its group yet
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        for process in below:
            processes.kill(process)

    def give_up_zygote(self) -> Optional[Zygote]:
        """The caller's from now on; None if there is none that can serve another run."""
        return self._nursery.give_up()

    def process_of(self, rank: int) -> Optional[Process]:
        """The process of a rank that runs its program and is not reaped, so that its pid is its own."""
        worker = self._workers.get(rank)
        if worker is None or worker.child is None or worker.status is not None or not worker.started:
            return None
        return Process(worker.child.pid, os.getpid(), worker.child.start_time)

    def close(self) -> None:
        """The end of the agent: nothing is left but the zygote, and that goes now, unless it was given up."""
        self._nursery.close()

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
        if any(worker.child is not None and worker.status is None for worker in self._workers.values()):
            return min(max(0.0, self._poll_at - now), self._nursery.wait())
        return self._nursery.wait()

    def look(self, now: float) -> None:
        """Once a turn: who has ended, what the progress files say, what is left of a sweep."""
        self._nursery.look()
        childless = self._reap()
        ended = [worker for worker in self._workers.values() if worker.status is not None and not worker.told]
        # What becomes of the others when one has failed depends on how far they are.
        if now >= self._poll_at or ended:
            self._poll_at = now + POLL_S
            self._records.look(
                w.child.pid for w in self._workers.values() if w.child and w.started and w.status is None
            )
            for worker in self._workers.values():
                if worker.status is None and worker.started:
                    self._read_on(worker, 1)
        for worker in sorted(ended, key=_first_causes):
            self._conclude(worker)
        if self._sweeping_since is not None:
            self._sweep_on(childless, now)

    def _start_cold(self, worker: _Worker, why: str) -> None:
        worker.cold = why
        try:
            child = spawn(worker.order, worker.berth)
        except SpawnError as error:
            worker.told = True
            worker.close()
            self._tell(NotStarted(worker.rank, error.message, error.hint))
            return
        worker.berth.close()
        worker.child = child
        self._selector.register(child.words, selectors.EVENT_READ, lambda _: self._hear(worker))

    def _born(self, rank: int, process: Process) -> None:
        """A zygote has forked the rank, which is our child and has been told to go."""
        worker = self._workers[rank]
        worker.berth.close()
        worker.child = Child(process.pid, process.start_time, -1)
        worker.started = worker.forked = True
        worker.status = self._strangers.pop(process.pid, None)
        self._tell(Started(rank, process.pid, process.start_time, forked=True))

    def _not_born(self, rank: int, why: str) -> None:
        self._start_cold(self._workers[rank], why)

    def _hear(self, worker: _Worker) -> None:
        """The child's last words before its program, or the silence that says that the exec succeeded."""
        child = worker.child
        if worker.started is not None or child is None:
            return
        try:
            words = os.read(child.words, MOST_WORDS)
        except BlockingIOError:
            return
        self._selector.unregister(child.words)
        os.close(child.words)
        worker.started = not words
        if worker.started:
            self._tell(Started(worker.rank, child.pid, child.start_time, cold=worker.cold))
        else:
            error = last_words(words)
            self._tell(NotStarted(worker.rank, error.message, error.hint))

    def _reap(self) -> bool:
        """Take the status of whoever has ended, orphans that came to us included; True if no child is left."""
        by_pid = {
            worker.child.pid: worker
            for worker in self._workers.values()
            if worker.child is not None and worker.status is None
        }
        if not self._nursery.busy:
            self._strangers.clear()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid in by_pid:
                by_pid[pid].status = status
            elif pid == self._nursery.pid:
                self._nursery.reaped(pid, status)
            elif self._nursery.busy:
                self._strangers[pid] = status

    def _read_on(self, worker: _Worker, pieces: int) -> None:
        for _ in range(pieces):
            for record in worker.tail.take(exited=worker.status is not None):
                worker.stepped = worker.stepped or record["type"] == records.STEP
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
            self._tell(self._exit_of(worker))
            if worker.forked and not worker.stepped and _crashed(worker.status or 0):
                self._nursery.distrust(f"rank {worker.rank} crashed before its first step")
        worker.told = True
        worker.close()

    def _exit_of(self, worker: _Worker) -> Exited:
        rank, status = worker.rank, worker.status or 0
        if not os.WIFSIGNALED(status):
            code = os.WEXITSTATUS(status)
            return Exited(rank, exit_code=code, raised=raised(worker.log) if code else "")
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL and not worker.killed and worker.child is not None:
            return Exited(rank, signal="SIGKILL", **self._records.of(worker.child.pid)._asdict())
        try:
            return Exited(rank, signal=signal.Signals(number).name)
        except ValueError:  # a real-time signal
            return Exited(rank, signal=f"signal {number}")

    def _sweep_on(self, childless: bool, now: float) -> None:
        # A child of ours that was there when the look at everyone began is still to be seen, dead or alive, as we reap
        # none meanwhile; and whoever is below it is seen, or had a parent who is. So nobody seen is nobody left.
        left = [] if childless else processes.descendants(os.getpid())
        left = [process for process in left if process.pid != self._nursery.pid]
        if not left:
            self._sweeping_since = None
            self._tell(Swept())
            return
        for process in left:
            processes.kill(process)
        self._pause = min(self._pause * 1.5, _SWEEP_PAUSES[1])
        if now >= (self._sweeping_since or now) + STUCK_S and not self._stuck_told:
            self._stuck_told = True
            self._tell(Stuck([process.pid for process in left]))


def _crashed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) in _CRASHES


def _first_causes(worker: _Worker) -> List[int]:
    """Of ends found in one turn, who was killed goes first, then who failed: the others are likely their victims."""
    status = worker.status or 0
    if os.WIFSIGNALED(status):
        return [0, worker.rank]
    code = os.WEXITSTATUS(status)
    return [3 if code == 0 else 2 if code in (WorkerExit.RESCUED, WorkerExit.STOPPED) else 1, worker.rank]
