"""The agent's body: a loop around the core that turns what happens into events and carries out instructions.

One thread, one selector. Nothing that it does in a turn takes long, whatever workers and clients do. Signals to workers
go before everything else that the core asks for, since only they must not wait for a disk.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional

from ..contract import layout, names
from . import events, processes
from .birth import Birth
from .clients import Clients
from .core import Core
from .events import Event, Instruction
from .journal import Follower, Journal
from .looks import Looks
from .publish import Publisher, move_output
from .room import Room
from .who import Identity
from .workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .keeper import Keeper
    from .kept import Kept

MARKED_S = 2.0


def live(listener: socket.socket, birth: Birth, warden: socket.socket) -> int:
    """An agent's life: one run, and as many further ones as adopt what it has kept warm. The exit code.

    Only the very process that a zygote hangs below can take up what that forks: the kernel hands orphans to the
    nearest subreaper above them. So an agent that is kept becomes the next run's agent itself.
    """
    kept: Optional[Kept] = None
    while True:
        keeper = Shell(listener, birth, warden, kept).run()
        taken = keeper.wait() if keeper is not None else None
        if taken is None:
            return 0
        listener, birth, kept = taken


def boottime() -> float:
    """Seconds since boot, a suspended machine's included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Shell:
    """One agent. `run` returns when nothing of the run is left to mind."""

    def __init__(
        self, listener: socket.socket, birth: Birth, warden: socket.socket, kept: Optional[Kept] = None
    ) -> None:
        self._birth = birth
        self._keeper: Optional[Keeper] = None
        processes.name_this_process("launcher-agent")
        processes.prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
        self._place = birth.place
        self._happened: Deque[Event] = deque()
        self._left = False
        self._room = Room(birth.folder)
        self._warden = warden
        self._selector = selectors.DefaultSelector()
        self._selector.register(warden, selectors.EVENT_READ, self._warden_died)
        self._catch_signals()
        self._journal = Journal(self._place.journal)
        past = self._journal.past
        if past.unended:  # an agent was killed: its warden's work was done, unless that was killed too
            processes.end_marked(f"{names.MARK}={layout.mark(birth.folder)}".encode(), MARKED_S)
        self._core = Core(_identity(birth, kept), past, birth.lease_s, boottime())
        self._workers = Workers(
            self._place, layout.mark(birth.folder), self._selector, self._happened.append, bool(birth.warm), kept
        )
        self._looks = Looks(self._happened.append)
        self._publisher = Publisher(self._place)
        self._clients = Clients(
            self._selector,
            listener,
            received=lambda client, message: self._happened.append(events.Received(client, message)),
            connected=lambda client: self._happened.append(events.Connected(client)),
            disconnected=lambda client: self._happened.append(events.Disconnected(client)),
        )

    def run(self) -> Optional[Keeper]:
        """Mind the run until it is over. If something is to stay, what keeps it, and nothing of the run is held."""
        self._carry_out(self._core.tick(boottime()))
        while not self._left:
            self._turn(self._selector.select(self._timeout()))
        self._workers.close()
        self._journal.sync()
        self._clients.close()
        if self._keeper is not None:
            self._let_go(self._keeper)
        return self._keeper

    def _let_go(self, keeper: Keeper) -> None:
        self._clients.stop_listening()
        keeper.begin()
        self._journal.close()
        self._selector.close()
        signal.set_wakeup_fd(-1)
        for descriptor in self._wake:
            os.close(descriptor)

    def _turn(self, ready: List[Any]) -> None:
        # Time first: after a suspend the lease is over before any message that arrived late is read.
        self._carry_out(self._core.tick(boottime()))
        for key, mask in ready:
            key.data(mask)
            self._settle()
        self._workers.look(boottime())
        self._looks.look(boottime())
        self._settle()
        answer = self._publisher.work()
        if answer is not None:
            self._happened.append(answer)
        self._settle()
        self._journal.sync()
        self._look_for_room()
        self._clients.pump()
        self._settle()

    def _timeout(self) -> float:
        if self._publisher.busy or self._clients.behind or self._happened:
            return 0.0
        now = boottime()
        return min(self._core.wait(), self._workers.wait(now), self._looks.wait(now))

    def _settle(self) -> None:
        while self._happened and not self._left:
            self._carry_out(self._core.on(self._happened.popleft(), boottime()))

    def _carry_out(self, instructions: List[Instruction]) -> None:
        for instruction in sorted(instructions, key=lambda i: not isinstance(i, (events.Kill, events.Ask))):
            self._HOW[type(instruction)](self, instruction)

    def _look_for_room(self) -> None:
        news = self._room.look(self._journal.problem, self._core.alive, boottime())
        if news is not None:
            self._happened.append(news)
            self._settle()

    # What happens outside of workers and connections.

    def _catch_signals(self) -> None:
        self._wake = reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the loop
        signal.signal(signal.SIGTERM, lambda *_: self._happened.append(events.Termed()))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the warden has blocked it until here

        def drain(_: int) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 4096)

        self._selector.register(reader, selectors.EVENT_READ, drain)

    def _warden_died(self, _: int) -> None:
        self._selector.unregister(self._warden)
        self._happened.append(events.Bereft("the agent's warden died"))

    # How instructions are carried out.

    def _send(self, do: events.Send) -> None:
        self._clients.send(do.client, do.message)

    def _follow(self, do: events.Follow) -> None:
        self._clients.follow(do.client, Follower(self._journal, do.since, self._core.seq))

    def _write(self, do: events.Write) -> None:
        self._journal.append(do.record)

    def _spawn(self, do: events.Spawn) -> None:
        self._workers.spawn(do)

    def _ask(self, do: events.Ask) -> None:
        self._workers.ask(do.rank)

    def _tell_of_loss(self, do: events.TellOfLoss) -> None:
        self._workers.tell_of_loss(do.rank)

    def _kill(self, do: events.Kill) -> None:
        self._workers.kill(do.rank, signal.Signals[do.signal])

    def _sweep(self, _: events.Sweep) -> None:
        self._workers.sweep(boottime())

    def _look(self, do: events.Look) -> None:
        path = self._place.stacks(do.generation, do.rank)
        self._looks.ask(do.rank, self._workers.process_of(do.rank), path, boottime())

    def _publish(self, do: events.Publish) -> None:
        self._publisher.add(do)

    def _move_output(self, do: events.MoveOutput) -> None:
        problem = ""
        try:
            move_output(self._place.rank_output(do.generation, do.rank), self._place.output, do.replace)
        except OSError as error:
            problem = str(error)
        self._happened.append(events.OutputMoved(do.rank, problem))

    def _keep(self, do: events.Keep) -> None:
        from .keeper import Keeper, NotKeptError  # most agents never need it

        try:
            self._keeper = Keeper(self._birth, self._warden, self._workers, do.seconds)
        except NotKeptError as error:
            self._happened.append(events.NotKept(str(error)))
            return
        self._happened.append(events.Kept(*self._keeper.who))

    def _leave(self, _: events.Leave) -> None:
        self._left = True

    _HOW: Dict[type, Callable[["Shell", Any], None]] = {  # noqa: RUF012
        events.Send: _send,
        events.Follow: _follow,
        events.Write: _write,
        events.Spawn: _spawn,
        events.Ask: _ask,
        events.TellOfLoss: _tell_of_loss,
        events.Kill: _kill,
        events.Sweep: _sweep,
        events.Look: _look,
        events.Publish: _publish,
        events.MoveOutput: _move_output,
        events.Keep: _keep,
        events.Leave: _leave,
    }


def _identity(birth: Birth, kept: Optional[Kept]) -> Identity:
    pid, warden = os.getpid(), os.getppid()
    process = processes.look_up(pid)
    more = {
        "warden_pid": warden,
        "start_time": process.start_time if process else 0,
        "machine_id": _first_line("/etc/machine-id"),
        "python": sys.version.split()[0],
        **({"warm": kept.run} if kept is not None else {"not_warm": birth.not_warm} if birth.not_warm else {}),
    }
    return Identity(
        host=birth.host,
        run=birth.run,
        pid=pid,
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        code=birth.code,
        token=os.urandom(8).hex(),
        more=more,
    )


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
