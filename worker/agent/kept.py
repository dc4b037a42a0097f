"""A zygote, and what of it outlives a run: what both the nursery and an agent that is kept warm hold in their hands."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from typing import NamedTuple

from . import processes
from .origin import Origin
from .processes import Process
from .spawn import MOST_WORDS, Child, last_words


class Zygote(NamedTuple):
    """A living one, ours to reap, and the line to it."""

    origin: Origin
    child: Child
    channel: socket.socket

    @property
    def process(self) -> Process:
        return Process(self.child.pid, 0, self.child.start_time)

    def told_end(self, status: int) -> str:
        """Why it ended, once it is reaped."""
        words = b""
        with contextlib.suppress(OSError):
            words = os.read(self.child.words, MOST_WORDS)
        if words:
            return last_words(words).message
        if os.WIFSIGNALED(status):
            return f"it was killed by signal {os.WTERMSIG(status)}"
        return f"it ended with exit code {os.WEXITSTATUS(status)}"

    def end(self) -> None:
        """Kill it; whoever reaps children reaps it."""
        self.channel.close()
        os.close(self.child.words)
        processes.kill(self.process)


class Kept(NamedTuple):
    """A zygote that has outlived the run for which it was started."""

    zygote: Zygote
    run: str

    def end(self) -> None:
        self.zygote.end()


def move_package(name: str, place: str) -> None:
    """What of this package is imported later comes from this folder, which holds the same as the one before."""
    package = sys.modules[name.partition(".")[0]]
    before = package.__path__[0]
    for module in [package, *(m for n, m in list(sys.modules.items()) if n.startswith(package.__name__ + "."))]:
        paths = getattr(module, "__path__", None)
        if paths is not None:
            module.__path__ = [place + path[len(before) :] if path.startswith(before) else path for path in paths]


def reap(pid: int, patience_s: float = 1.0) -> None:
    """Wait for a child that was killed; whoever does not come out of the kernel is the warden's."""
    until = time.monotonic() + patience_s
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < until:
            time.sleep(0.002)
