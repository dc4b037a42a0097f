"""The zygote as the agent sees it: a process that has imported the trainer already, asked for a worker at a time.

A forked worker is our child (see `train.zygote`) and does nothing before we have said go. So until then we can give up
at any moment, start the rank cold, and know that there will be only one of it.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from typing import Callable, Dict, NamedTuple, Optional

from ..contract.machine import memory
from . import adoption
from . import origin as origins
from .events import Event, ZygoteAdopted, ZygoteEnded, ZygoteReady
from .forks import MOST_MESSAGE, Request, child_of_ours, clock, pair, parse, send, told_seconds
from .kept import Kept, Zygote, reap
from .orders import RankOrder
from .origin import Origin
from .processes import Process
from .spawn import Berth, Inherited, Program, open_log, start

FD = "LAUNCHER_ZYGOTE_FD"
GO = b"go"
IMPORT_S = 60.0  # how long the import may take
FORK_S = 5.0  # from asking to the child's word, on a machine that has other work
LEAST_MEMORY = 2 << 30  # so much is to be free before a zygote is started: it takes half a gigabyte, and workers more
_MOST_AT_ONCE = 4
_HANG_UP_S = 0.2  # between the end of the channel and the news of the process's own


class Callbacks(NamedTuple):
    """What becomes of a request, told once: the process of the rank, or why there is none."""

    born: Callable[[int, Process], None]
    failed: Callable[[int, str], None]
    tell: Callable[[Event], None]


class Nursery:
    """At most one zygote, and what it is asked for. No method blocks or raises, but for `close`, which takes a second
    at most."""

    def __init__(
        self,
        log: str,
        selector: selectors.BaseSelector,
        callbacks: Callbacks,
        warm: bool = False,
        kept: Optional[Kept] = None,
    ) -> None:
        """`warm`: what it starts may be kept; `kept`: what an earlier run has left, for the first rank to be asked."""
        self._log = log
        self._warm = warm
        self._kept = kept
        self._adopting: Optional[Kept] = None  # it has been asked whether it is still what it was
        self._selector = selector
        self._back = callbacks
        self._zygote: Optional[Zygote] = None
        self._ready = False
        self._hung_up_at: Optional[float] = None
        self._requests: Dict[int, Request] = {}
        self._distrust = ""

    @property
    def pid(self) -> Optional[int]:
        """The zygote's, as long as it is wanted: a sweep spares it."""
        zygote = self._kept.zygote if self._kept is not None else self._zygote
        return zygote.child.pid if zygote is not None else None

    @property
    def busy(self) -> bool:
        """Whether a child may be there that we do not know yet."""
        return bool(self._requests)

    def ask(self, order: RankOrder, berth: Berth, wait_s: float) -> str:
        """Ask for a rank; the answer comes over the callbacks. Otherwise why there will be none: start it cold.

        The import is waited for no longer than `wait_s`.
        """
        why = self._distrust or origins.doubt(order, berth.env)
        if why:
            return why
        wanted = origins.origin(order, berth.env)
        if self._kept is not None:
            self._try_kept(self._kept, wanted, berth.env)
        if self._zygote is not None and self._zygote.origin != wanted:
            if self._requests:
                return "its environment is not that of the other ranks here"
            self._end("another environment is wanted")
        if self._zygote is None:
            why = self._start(wanted, berth.env)
            if why:
                return why
        said = {"rank": order.rank, "env": berth.env, "cwd": order.cwd, "agent": os.getpid(), "asked": time.monotonic()}
        body = json.dumps(said, separators=(",", ":")).encode("utf-8")
        wait_s = min(IMPORT_S, wait_s)
        patience = FORK_S if self._ready or self._adopting else wait_s
        self._requests[order.rank] = Request(order.rank, berth, body, clock() + patience, wait_s)
        self._ask_on()
        return ""

    def cancel(self, rank: int) -> None:
        """Nothing of this request is wanted any more, and nothing more is told of it."""
        request = self._requests.pop(rank, None)
        if request is not None:
            self._drop(request)

    def distrust(self, why: str) -> None:
        """Something went wrong that may be the fork's fault: no more of it in this agent's life."""
        self._distrust = self._distrust or why
        if self._zygote is not None:
            self._end(why)

    def reaped(self, pid: int, status: int) -> None:
        """A child of ours has ended."""
        if self._kept is not None and pid == self.pid:
            self._refuse(self._kept, "it has died")
        elif pid == self.pid:
            self._lose("it has ended" if self._zygote is None else self._zygote.told_end(status))

    def look(self) -> None:
        """Once a turn: what has taken too long."""
        now = clock()
        if self._hung_up_at is not None and now >= self._hung_up_at + _HANG_UP_S:
            self._lose("it hung up")
        if any(now >= request.deadline for request in self._requests.values()):
            self._lose("it did not answer in time" if self._ready else "its import took too long")

    def wait(self) -> float:
        """In how many seconds `look` is due."""
        now = clock()
        due = [request.deadline for request in self._requests.values()]
        due += [] if self._hung_up_at is None else [self._hung_up_at + _HANG_UP_S]
        return max(0.0, min(due) - now) if due else 1.0

    def close(self) -> None:
        """The end of the agent: the zygote is killed and reaped."""
        pid = self.pid
        if self._kept is not None:
            self._kept.end()
        self._back = self._back._replace(failed=lambda *_: None, tell=lambda _: None)
        self._end("the agent leaves")
        if pid is not None:
            reap(pid)

    def give_up(self) -> Optional[Zygote]:
        """The zygote, if there is one that can serve another run; it is the caller's then, and nothing is left here."""
        zygote = self._zygote
        if zygote is None or not self._ready or self._requests or not self._warm:
            return None
        return self._let_go()

    # The zygote itself.

    def _start(self, wanted: Origin, env: Dict[str, str]) -> str:
        free = memory.available()
        if free is not None and free < LEAST_MEMORY:
            return f"{free >> 20} MB of memory are free, and {LEAST_MEMORY >> 20} are wanted"
        try:
            log = open_log(self._log)
        except OSError as error:
            return f"its log cannot be opened: {error.strerror}"
        try:
            ours, theirs = pair()
            try:
                inherits = Inherited(FD, theirs.fileno())
                environment = origins.environment(wanted, env, self._warm)
                child = start(Program(wanted.argv, wanted.cwd, environment, log, inherits))
            except OSError:
                ours.close()
                raise
            finally:
                theirs.close()
        except OSError as error:
            return f"no process could be started for it: {error.strerror}"
        finally:
            os.close(log)
        self._listen_to(Zygote(wanted, child, ours))
        return ""

    def _listen_to(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._ready, self._hung_up_at = False, None
        self._selector.register(zygote.channel, selectors.EVENT_READ, lambda _: self._hear())

    # One that an earlier run has left. Whatever speaks against it, another one is started in its place.

    def _try_kept(self, kept: Kept, wanted: Origin, env: Dict[str, str]) -> None:
        why = adoption.ask(kept, wanted, env, self._log)
        if why:
            self._refuse(kept, why)
            return
        self._kept, self._adopting = None, kept
        self._listen_to(kept.zygote._replace(origin=wanted))

    def _refuse(self, kept: Kept, why: str) -> None:
        self._kept = None
        kept.end()
        self._back.tell(ZygoteEnded(kept.zygote.child.pid, f"kept warm by {kept.run}, it cannot serve: {why}"))

    def _start_over(self, why: str) -> None:
        """It has refused: what was asked of it is asked of a fresh one."""
        kept, zygote = self._adopting, self._let_go()
        if kept is None or zygote is None:
            return
        self._refuse(kept, why)
        for request in self._requests.values():
            request.deadline = clock() + request.wait_s
        first = next(iter(self._requests.values()), None)
        problem = self._start(zygote.origin, first.berth.env) if first is not None else ""
        if problem:
            for rank in list(self._requests):
                self._fail(rank, problem)

    def _hear(self) -> None:
        zygote = self._zygote
        if zygote is None:
            return
        try:
            data = zygote.channel.recv(MOST_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # how it ended is known once it is reaped
            self._selector.unregister(zygote.channel)
            self._hung_up_at = clock()
            return
        message = parse(data)
        if self._adopting is not None and "adopted" in message:
            run, self._adopting = self._adopting.run, None
            self._back.tell(ZygoteAdopted(zygote.child.pid, zygote.child.start_time, run))
        elif "ready" in message:
            took = told_seconds(message["ready"])
            self._back.tell(ZygoteReady(zygote.child.pid, zygote.child.start_time, took))
        else:
            self._lose(str(message.get("cannot") or "it said nothing that is known"))
            return
        self._ready = True
        self._give_time()
        self._ask_on()

    def _lose(self, why: str) -> None:
        """It is of no use any more. One that came to an end before it was ready would do so again."""
        if self._adopting is not None:
            self._start_over(why)
        elif self._ready:
            self._end(why)
        else:
            self.distrust(why)

    def _end(self, why: str) -> None:
        zygote = self._let_go()
        if zygote is None:
            return
        zygote.end()
        self._back.tell(ZygoteEnded(zygote.child.pid, why))
        for rank in list(self._requests):
            self._fail(rank, why)

    def _let_go(self) -> Optional[Zygote]:
        """It is not ours any more, and not listened to."""
        zygote, self._zygote = self._zygote, None
        if zygote is not None and self._hung_up_at is None:
            self._selector.unregister(zygote.channel)
        self._hung_up_at, self._ready, self._adopting = None, False, None
        return zygote

    # What it is asked for.

    def _ask_on(self) -> None:
        """Ask for as many as may be under way at once."""
        zygote = self._zygote
        if zygote is None or not self._ready:
            return
        for request in list(self._requests.values()):
            if sum(one.line is not None for one in self._requests.values()) >= _MOST_AT_ONCE:
                return
            if request.line is None and not self._send(zygote.channel, request):
                self._end("it takes no requests")
                return

    def _send(self, channel: socket.socket, request: Request) -> bool:
        try:
            ours, theirs = pair()
        except OSError:
            return False
        descriptors = [theirs.fileno(), request.berth.log, *filter(None, [request.berth.listens])]
        try:
            send(channel, request.body, descriptors)
        except OSError:
            ours.close()
            return False
        finally:
            theirs.close()
        request.line = ours
        self._selector.register(ours, selectors.EVENT_READ, lambda _: self._hear_child(request))
        return True

    def _hear_child(self, request: Request) -> None:
        if request.line is None or self._requests.get(request.rank) is not request:
            return
        try:
            data = request.line.recv(MOST_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        message = parse(data)
        process = child_of_ours(message.get("here"))
        if process is not None:
            try:
                request.line.send(GO)
            except OSError:
                process = None
        if process is None:  # it would be the same for the next one
            why = str(message.get("no") or "it sent no child of ours")
            if "no" in message:
                self.distrust(why)
            else:
                self._end(why)
            return
        del self._requests[request.rank]
        self._drop(request)
        self._give_time()
        self._back.born(request.rank, process)
        self._ask_on()

    def _give_time(self) -> None:
        """It gets on: whoever waits does so for what comes next."""
        for request in self._requests.values():
            request.deadline = clock() + FORK_S

    def _fail(self, rank: int, why: str) -> None:
        request = self._requests.pop(rank)
        self._drop(request)
        self._back.failed(rank, why)

    def _drop(self, request: Request) -> None:
        if request.line is not None:
            self._selector.unregister(request.line)
            request.line.close()
            request.line = None
