"""The warden: the agent's parent. It does nothing until the agent ends, in whatever way; then it ends everything below.

It is a child subreaper, so whatever the workers have started comes to it at last, in whatever session and with whatever
environment. SIGTERM, which batch systems send to every process of a job, is the agent's to answer and nothing to the
warden. It touches no disk and no worker's memory, so that nothing can hold it up. It holds the name of the agent's
socket until the last descendant is gone: no other agent of this folder can start a generation beside the remains of
this one. An agent that is kept after its run gives that name up, and may be given another one later.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import Optional, Tuple

from . import processes
from .birth import Birth, fork_child
from .name_held import heard


def main(listener: socket.socket, birth: Birth) -> int:
    """Fork the agent, wait for its end, then for the end of all its descendants."""
    processes.name_this_process("launcher-warden")
    processes.prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
    ours, agents = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # its end of file: the other side is gone
    woken, wakes = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake us
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the agent's until it has a handler, ours for good
    agent = fork_child(lambda: _agent(listener, birth, agents, ours, (woken, wakes)))
    agents.close()
    held = _mind(agent, listener, ours, woken)
    # No connection is queued any more, but the name stays taken.
    if held is not None:
        held.shutdown(socket.SHUT_RDWR)
    processes.end_descendants()
    return 0


def _mind(agent: int, listener: socket.socket, ours: socket.socket, woken: int) -> Optional[socket.socket]:
    """Until the agent has ended; the name that it has left to be held."""
    held: Optional[socket.socket] = listener
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    poll.register(ours, select.POLLIN)
    alive = speaks = True
    while alive:
        poll.poll()
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        alive = not _reaped(agent)
        if speaks:  # after the look at the agent: what it said last is not missed
            held, speaks = heard(ours, held)
            if not speaks:
                poll.unregister(ours)
    return held


def _reaped(agent: int) -> bool:
    while True:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid in (0, agent):
            return pid == agent


def _agent(
    listener: socket.socket, birth: Birth, agents: socket.socket, wardens: socket.socket, wake: Tuple[int, int]
) -> int:
    wardens.close()
    signal.set_wakeup_fd(-1)
    for descriptor in wake:
        os.close(descriptor)
    from .shell import live  # only here: the warden stays small

    return live(listener, birth, agents)
