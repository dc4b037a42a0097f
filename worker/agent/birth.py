"""How warden and agent come to be: forked off the relay that found nobody listening. One Python start, no exec."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from typing import Callable

from ..contract.layout import HostFolder
from ..contract.value import Value


class Birth(Value):
    """What an agent is born with; the same for its life."""

    folder: str  # absolute, exists
    host: str
    run: str
    lease_s: float
    code: str  # the name of our package's folder: its hash, where it is staged
    warm: str = ""  # for which runs it may be kept after its own; empty: for none
    not_warm: str = ""  # why one that was kept could not serve in its place

    @property
    def place(self) -> HostFolder:
        return HostFolder(self.folder)


def in_background(listener: socket.socket, birth: Birth, main: Callable[[socket.socket, Birth], int]) -> None:
    """Run `main` in a process of its own session, with no terminal, parent or descriptor of ours but `listener`.

    Returns in the caller once it is on its way. Raises OSError if there can be no further process.
    """
    gc.freeze()  # what is here now is shared by relay, warden and agent; the collector would copy its pages
    child = os.fork()
    if child:
        if os.waitpid(child, 0)[1] != 0:
            raise OSError(errno.EAGAIN, "no further process can be started")
        return
    code = 1
    try:
        os.setsid()
        # A leader of a session could still get a terminal by opening one: its child cannot.
        fork_child(lambda: _detached(listener, birth, main))
        code = 0
    finally:
        os._exit(code)


def _detached(listener: socket.socket, birth: Birth, main: Callable[[socket.socket, Birth], int]) -> int:
    _detach(listener.fileno(), birth)
    return main(listener, birth)


def fork_child(main: Callable[[], int]) -> int:
    """Run `main` in a child that ends with it, and never returns into the caller's frames. The child's pid."""
    child = os.fork()
    if child == 0:
        _run(main)
    return child


def _run(main: Callable[[], int]) -> None:
    code = 1
    try:
        code = main()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _detach(listener: int, birth: Birth) -> None:
    os.chdir("/")
    os.umask(0o077)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):  # a number that libc keeps to itself
            continue
    # A broken pipe and a file over its limit are errors of the call here, not the end of the process.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    speak_into(birth.place.agent_log)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != listener:
            try:
                os.close(int(name))
            except OSError:  # the listing's own
                continue
    with contextlib.suppress(OSError):
        os.open(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.O_RDONLY)  # in use, for `clean`


def speak_into(path: str) -> None:
    """Standard output and error are this file's from now on, and there is no input."""
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError:  # a full disk: an agent without a log is better than none
        log = os.dup(nothing)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for descriptor in {nothing, log} - {0, 1, 2}:
        os.close(descriptor)
