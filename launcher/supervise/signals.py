"""The signals of a process that ends in its own way: SIGTERM is an event of its loop, the others are nothing to it."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)


class Wake:
    """Readable when a signal has come."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        return self._end.fileno()

    def terms(self) -> int:
        """How many SIGTERMs have come since this was asked last."""
        with contextlib.suppress(BlockingIOError):
            return self._end.recv(64).count(signal.SIGTERM)
        return 0


@contextlib.contextmanager
def wakened() -> Iterator[Wake]:
    """Take the signals over, for the life of the process; what was woken by them until the block ends."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    try:
        yield Wake(ours)
    finally:
        signal.set_wakeup_fd(before)
        ours.close()
        theirs.close()
