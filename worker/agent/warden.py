"""The warden: the agent's parent. It does nothing until the agent ends, in whatever way; then it ends everything below.

It is a child subreaper, so whatever the workers have started comes to it at last, in whatever session and with whatever
environment. SIGTERM, which batch systems send to every process of a job, is the agent's to answer and nothing to the
warden. It touches no disk and no worker's memory, so that nothing can hold it up.
"""

from __future__ import annotations

import os
import signal
import socket

from . import processes
from .birth import Birth, fork_child


def main(listener: socket.socket, birth: Birth) -> int:
    """Fork the agent, wait for its end, then for the end of all its descendants."""
    processes.name_this_process("launcher-warden")
    processes.prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
    ours, agents = os.pipe()  # never written to: its end of file tells the agent that the warden is gone
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the agent's until it has a handler, ours for good
    # The agent finds the reading end in `ours` and closes `agents`, without which it would keep the pipe open itself.
    agent = fork_child(lambda: _agent(listener, birth, ours, agents))
    os.close(ours)
    while os.waitpid(-1, 0)[0] != agent:
        pass
    # No connection is queued any more, but the name stays taken until the last descendant is gone: no other agent of
    # this folder can start a generation beside the remains of this one.
    listener.shutdown(socket.SHUT_RDWR)
    processes.end_descendants()
    return 0


def _agent(listener: socket.socket, birth: Birth, warden: int, wardens: int) -> int:
    os.close(wardens)
    from .shell import Shell  # only here: the warden stays small

    return Shell(listener, birth, warden).run()
