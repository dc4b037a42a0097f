"""The zygote as the agent sees it: a process that has imported the trainer already, asked for a worker at a time.

A forked worker is our child (see `train.zygote`) and does nothing before we have said go. So until then we can give up
at any moment, start the rank cold, and know that there will be only one of it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import selectors
import socket
import time
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from ..contract.machine import memory
from . import origin as origins
from . import processes
from .events import Event, ZygoteEnded, ZygoteReady
from .orders import RankOrder
from .origin import Origin
from .processes import Process
from .spawn import MOST_WORDS, Berth, Child, Inherited, Program, last_words, open_log, start

FD = "LAUNCHER_ZYGOTE_FD"
GO = b"go"
IMPORT_S = 60.0  # how long the import may take
FORK_S = 5.0  # from asking to the child's word, on a machine that has other work
LEAST_MEMORY = 2 << 30  # so much is to be free before a zygote is started: it takes half a gigabyte, and workers more
_MOST_AT_ONCE = 4
_HANG_UP_S = 0.2  # between the end of the channel and the news of the process's own
_MOST_MESSAGE = 4096


class Callbacks(NamedTuple):
    """What becomes of a request, told once: the process of the rank, or why there is none."""

    born: Callable[[int, Process], None]
    failed: Callable[[int, str], None]
    tell: Callable[[Event], None]


class _Request:
    def __init__(self, rank: int, berth: Berth, body: bytes, deadline: float) -> None:
        self.rank = rank
        self.berth = berth
        self.body = body
        self.deadline = deadline
        self.line: Optional[socket.socket] = None  # to the child, once it has been asked for


class _Zygote(NamedTuple):
    origin: Origin
    child: Child
    channel: socket.socket


class Nursery:
    """At most one zygote, and what it is asked for. No method blocks or raises, but for `close`, which takes a second
    at most."""

    def __init__(self, log: str, selector: selectors.BaseSelector, callbacks: Callbacks) -> None:
        self._log = log
        self._selector = selector
        self._back = callbacks
        self._zygote: Optional[_Zygote] = None
        self._ready = False
        self._hung_up_at: Optional[float] = None
        self._requests: Dict[int, _Request] = {}
        self._distrust = ""

    @property
    def pid(self) -> Optional[int]:
        """The zygote's, as long as it is wanted: a sweep spares it."""
        return self._zygote.child.pid if self._zygote is not None else None

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
        patience = FORK_S if self._ready else min(IMPORT_S, wait_s)
        self._requests[order.rank] = _Request(order.rank, berth, body, _clock() + patience)
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
        if pid == self.pid:
            self._lose(self._told_end(status))

    def look(self) -> None:
        """Once a turn: what has taken too long."""
        now = _clock()
        if self._hung_up_at is not None and now >= self._hung_up_at + _HANG_UP_S:
            self._lose("it hung up")
        if any(now >= request.deadline for request in self._requests.values()):
            self._lose("it did not answer in time" if self._ready else "its import took too long")

    def wait(self) -> float:
        """In how many seconds `look` is due."""
        now = _clock()
        due = [request.deadline for request in self._requests.values()]
        due += [] if self._hung_up_at is None else [self._hung_up_at + _HANG_UP_S]
        return max(0.0, min(due) - now) if due else 1.0

    def close(self) -> None:
        """The end of the agent: the zygote is killed and reaped."""
        zygote = self._zygote
        if zygote is None:
            return
        self._back = self._back._replace(failed=lambda *_: None, tell=lambda _: None)
        self._end("the agent leaves")
        until = time.monotonic() + 1.0
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(zygote.child.pid, os.WNOHANG)[0] == 0 and time.monotonic() < until:
                time.sleep(0.002)

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
            ours, theirs = _pair()
            try:
                inherits = Inherited(FD, theirs.fileno())
                child = start(Program(wanted.argv, wanted.cwd, origins.environment(wanted, env), log, inherits))
            except OSError:
                ours.close()
                raise
            finally:
                theirs.close()
        except OSError as error:
            return f"no process could be started for it: {error.strerror}"
        finally:
            os.close(log)
        self._zygote = _Zygote(wanted, child, ours)
        self._ready, self._hung_up_at = False, None
        self._selector.register(ours, selectors.EVENT_READ, lambda _: self._hear())
        return ""

    def _hear(self) -> None:
        zygote = self._zygote
        if zygote is None:
            return
        try:
            data = zygote.channel.recv(_MOST_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # how it ended is known once it is reaped
            self._selector.unregister(zygote.channel)
            self._hung_up_at = _clock()
            return
        message = _parse(data)
        if "ready" not in message:
            self._lose(str(message.get("cannot") or "it said nothing that is known"))
            return
        self._ready = True
        self._give_time()
        self._back.tell(ZygoteReady(zygote.child.pid, zygote.child.start_time, _seconds(message["ready"])))
        self._ask_on()

    def _lose(self, why: str) -> None:
        """It is of no use any more. One that came to an end before it was ready would do so again."""
        if self._ready:
            self._end(why)
        else:
            self.distrust(why)

    def _end(self, why: str) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is None:
            return
        if self._hung_up_at is None:
            self._selector.unregister(zygote.channel)
        self._hung_up_at = None
        self._ready = False
        zygote.channel.close()
        os.close(zygote.child.words)
        processes.kill(Process(zygote.child.pid, 0, zygote.child.start_time))
        self._back.tell(ZygoteEnded(zygote.child.pid, why))
        for rank in list(self._requests):
            self._fail(rank, why)

    def _told_end(self, status: int) -> str:
        words = b""
        if self._zygote is not None:
            with contextlib.suppress(OSError):
                words = os.read(self._zygote.child.words, MOST_WORDS)
        if words:
            return last_words(words).message
        if os.WIFSIGNALED(status):
            return f"it was killed by signal {os.WTERMSIG(status)}"
        return f"it ended with exit code {os.WEXITSTATUS(status)}"

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

    def _send(self, channel: socket.socket, request: _Request) -> bool:
        try:
            ours, theirs = _pair()
        except OSError:
            return False
        descriptors = [theirs.fileno(), request.berth.log, *filter(None, [request.berth.listens])]
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        try:
            channel.sendmsg([request.body], [rights])
        except OSError:  # also one that would block: it has not read what it was asked before
            ours.close()
            return False
        finally:
            theirs.close()
        request.line = ours
        self._selector.register(ours, selectors.EVENT_READ, lambda _: self._hear_child(request))
        return True

    def _hear_child(self, request: _Request) -> None:
        if request.line is None or self._requests.get(request.rank) is not request:
            return
        try:
            data = request.line.recv(_MOST_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        message = _parse(data)
        process = _child(message.get("here"))
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
            request.deadline = _clock() + FORK_S

    def _fail(self, rank: int, why: str) -> None:
        request = self._requests.pop(rank)
        self._drop(request)
        self._back.failed(rank, why)

    def _drop(self, request: _Request) -> None:
        if request.line is not None:
            self._selector.unregister(request.line)
            request.line.close()
            request.line = None


def _pair() -> Tuple[socket.socket, socket.socket]:
    """Our end, which never blocks, and theirs. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def _clock() -> float:
    """Seconds that this machine was awake: one that was suspended meanwhile has made nobody late."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def _parse(data: bytes) -> Dict[str, Any]:
    try:
        message = json.loads(data.decode("utf-8"))
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _seconds(value: Any) -> float:
    return round(float(value), 3) if isinstance(value, (int, float)) else 0.0


def _child(pid: Any) -> Optional[Process]:
    """The process of this pid, if it is our own child."""
    process = processes.look_up(pid) if isinstance(pid, int) and pid > 0 else None
    return process if process is not None and process.parent == os.getpid() else None
