"""`python <worker folder> zygote`: imports the trainer once, then forks ranks of it off this process, one a request.

The agent starts it as it would start a rank, and asks over a socket (`LAUNCHER_ZYGOTE_FD`). Nothing of TensorFlow is
used before the fork: no tensor, no device, no strategy, no thread. A request is JSON {rank, env, cwd, agent, asked}
with three descriptors: a line to the agent, the rank's log, its control pipe. The rank is forked twice, so that it
becomes the agent's own child; it says {here: pid} on its line and does nothing before the agent's `go`. Whatever is
not as it should be is said as {no: why}, and the agent starts the rank cold.

One that was kept after its run is asked {adopt: {marks of the new run, its job}, code} first, with the log that is its
own from now on; it answers {adopted: true}, or {cannot: why}.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any

from ..agent import processes
from ..agent.zygote import FD, GO
from ..contract import names
from . import main as trainer
from .shown import show_rank
from .warm import Adopted, Warmth

if TYPE_CHECKING:
    from .stock import Stock

_REQUEST = 1 << 18  # what a socket takes in one piece
_DESCRIPTORS = 3
_ADOPTED_S = 2.0
_THREADS_S = 0.2  # one that has been joined may still be on its way out
_SACRIFICE = 500  # of 1000: losing this process costs a restart a few seconds, losing a worker costs the restart


class _Refusal(Exception):  # noqa: N818 - nothing has failed: the rank is started another way
    """Why a rank cannot be forked."""


@dataclass
class _Request:
    rank: int
    env: dict[str, str]
    cwd: str
    agent: int
    asked: float
    line: socket.socket
    log: int
    control: int

    def close(self) -> None:
        self.line.close()
        os.close(self.log)
        os.close(self.control)

    def say(self, **words: Any) -> None:
        with contextlib.suppress(OSError):
            self.line.send(json.dumps(words).encode())


def main(argv: list[str]) -> int:
    """Serve the agent until it hangs up; in a forked rank, become the trainer, which never returns."""
    if argv or not os.environ.get(FD, "").isdigit():
        print("usage: python WORKER_FOLDER zygote    (an agent starts it, and speaks to it)", file=sys.stderr)
        return 2
    channel = socket.socket(fileno=int(os.environ.pop(FD)))
    channel.set_inheritable(False)
    processes.name_this_process("launcher-zygote")
    # A batch system sends SIGTERM to everybody here. It says nothing to this process, which its agent kills.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    began = time.monotonic()
    try:
        stock = _prepare()
    except Exception as error:
        channel.send(json.dumps({"cannot": f"the trainer cannot be imported: {error}"[:1000]}).encode())
        return 1
    warmth = Warmth(os.environ, stock)
    worth = _be_the_first_to_go()
    gc.freeze()  # what is here now is shared with the workers; the collector would copy its pages
    channel.send(json.dumps({"ready": time.monotonic() - began}).encode())
    while True:
        request = _receive(channel)
        if request is None:
            return 0
        if isinstance(request, Adopted):
            channel.send(json.dumps(_adopt(request, warmth)).encode())
            continue
        between = _fork(request)
        if between is not None:
            channel.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            warmth.settle(request.env)
            _live(request, between, stock, worth)
        request.close()


def _adopt(request: Adopted, warmth: Warmth) -> dict[str, Any]:
    try:
        _look_at_ourselves()
        why = warmth.adopt(request)
    except (_Refusal, OSError) as error:
        why = str(error)
    return {"cannot": why} if why else {"adopted": True}


def _prepare() -> Stock | None:
    """All that a rank would import before its first step, and the data set, read beside it."""
    trainer.prepare_imports()
    from .stock import lay_in

    found: list[Stock | None] = []
    reading = Thread(target=lambda: found.append(lay_in(os.environ)))
    reading.start()
    try:
        trainer.import_session()
        # NumPy leaves this one to its first use.
        import numpy.random  # noqa: F401  # isort: skip
    finally:
        reading.join()  # no thread may be left when we fork
    return found[0] if found else None


def _be_the_first_to_go() -> str:
    """When memory runs out, the kernel is to take this process. What its score was is what a worker's is to be."""
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            worth = file.read().strip()
            file.seek(0)
            file.write(str(max(_SACRIFICE, int(worth))))
    except (OSError, ValueError):
        return ""
    return worth


def _receive(channel: socket.socket) -> _Request | Adopted | None:
    """The next request; None if the agent is gone."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
    try:
        body, ancillary, _, _ = channel.recvmsg(_REQUEST, room, socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return None
    if not body:
        return None
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    said = json.loads(body)
    if "adopt" in said:
        return Adopted(said["adopt"], said["code"], descriptors[0])
    line, log, control = descriptors
    return _Request(
        rank=said["rank"],
        env=said["env"],
        cwd=said["cwd"],
        agent=said["agent"],
        asked=said["asked"],
        line=socket.socket(fileno=line),
        log=log,
        control=control,
    )


def _fork(request: _Request) -> int | None:
    """Fork twice. In the rank's process, the pid of the one in between; here None, once that one has left."""
    try:
        _look_at_ourselves()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
    except (_Refusal, OSError) as error:
        request.say(no=str(error))
        return None
    if child:
        os.waitpid(child, 0)
        return None
    between = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        request.say(no=str(error))
        os._exit(1)
    if child:
        os._exit(0)
    return between


def _look_at_ourselves() -> None:
    """Raises _Refusal if this process is not one that can be forked."""
    until = time.monotonic() + _THREADS_S
    while (threads := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < until:
        time.sleep(0.001)
    if threads > 1:
        raise _Refusal(f"importing the trainer left {threads - 1} threads behind")
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("/dev/nvidia"):
                raise _Refusal("importing the trainer opened a GPU")


def _live(request: _Request, between: int, stock: Stock | None, worth: str) -> None:
    """The rank's life in the process that was forked for it. Ends the process."""
    code = 1
    try:
        _settle(request, between, worth)
        request.say(here=os.getpid())
        if request.line.recv(len(GO)) == GO:
            request.line.close()
            code = trainer.main([], trainer.Forked(stock, request.asked))
    except _Refusal as refusal:
        request.say(no=str(refusal))
    except SystemExit as exit_:  # from a user's function: it means to a forked process what it means to any other
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code & 0xFF)


def _settle(request: _Request, between: int, worth: str) -> None:
    """Become what the agent would have started. Raises _Refusal."""
    until = time.monotonic() + _ADOPTED_S
    while os.getppid() == between and time.monotonic() < until:
        time.sleep(0.0005)
    if os.getppid() != request.agent:
        raise _Refusal("the forked process did not become the agent's child")
    try:
        processes.prctl(processes.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != request.agent:  # it died before the line above: nobody would tell us
            os._exit(1)
        os.setsid()
        if worth:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write(worth)
        os.dup2(request.log, 1)
        os.dup2(request.log, 2)
        os.close(request.log)
        os.chdir(request.cwd)
    except OSError as error:
        raise _Refusal(f"the forked process could not be set up: {error}") from error
    os.set_inheritable(request.control, True)
    os.environ.clear()
    os.environ.update(request.env)
    os.environ[names.CONTROL_FD] = str(request.control)
    tempfile.tempdir = None  # the import may have looked for one
    if "numpy" in sys.modules:  # its global stream, which all our children would have in common; Python sees to its own
        sys.modules["numpy"].random.seed()
    sys.argv[1:] = ["train"]
    processes.name_this_process(f"launcher-rank{request.rank}"[:15])
    show_rank(request.rank)
