"""`visit`: all that a host is asked before a run, in one conversation; at its end this process becomes the relay.

The coordinator sends what `stage` and `check` answer, in any order, as often as it likes, and may send all that it
knows already at once. With `reach` (see `contract.wire`) the conversation is over: whatever listened is closed, and
what follows is the relay's, its magic word first. So a host costs one start of Python from the first question to the
agent, which is forked off this very process. That needs a process with a single thread: where one was left behind, by a
disk or a name server that does not answer, the conversation ends, and the relay is to be entered anew.
"""

from __future__ import annotations

import os
import time
from typing import List

from ..agent import relay
from ..contract import wire
from .check import Checker
from .room import GoneError
from .stage import serve
from .talk import Talk

_THREADS_S = 0.5


def main(argv: List[str]) -> int:
    """Serve one coordinator to the end of its input; then as the relay."""
    del argv
    umask = os.umask(0o077)
    talk = Talk()
    checker = Checker(talk)
    try:
        while True:
            frame = checker.receive()
            if frame is None:
                return 0
            message = frame[0]
            if message["type"] == wire.REACH:
                checker.close()
                os.umask(umask)
                return _reach(talk, message)
            if not checker.serve(message) and not serve(talk, message, umask):
                return 1
    except (GoneError, BrokenPipeError):
        return 0
    except wire.WireError as error:
        talk.send({"type": "error", "kind": "order", "why": str(error)})
        return 1


def _reach(talk: Talk, message: wire.Message) -> int:
    deadline = time.monotonic() + _THREADS_S
    while len(os.listdir("/proc/self/task")) > 1:  # one whose work is done may not have gone yet
        if time.monotonic() > deadline:
            return 0
        time.sleep(0.001)
    return relay.serve(message, talk.hand_over())
