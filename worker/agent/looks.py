"""Looks at ranks that make no progress: is the process stopped, and where do its threads stand.

Nothing is asked of a process that has not said that it handles the question: SIGUSR2 ends whoever does not.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Callable, Dict, NamedTuple, Optional

from . import processes, stacks
from .events import Event, Stands
from .processes import Process

WRITTEN_S = 1.0  # after the signal: the dump of a hundred threads takes milliseconds, on a busy machine more
_MOST_BYTES = 1 << 18


class _Look(NamedTuple):
    process: Process
    path: str
    begin: int  # of what this dump adds to the file
    due: float


class Looks:
    """Each `ask` is answered by one Stands. No method blocks or raises."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._looks: Dict[int, _Look] = {}

    def ask(self, rank: int, process: Optional[Process], path: str, now: float) -> None:
        """Have a rank write down where it stands, in the file of this path."""
        state = processes.state(process.pid) if process is not None else ""
        if process is None or state in ("T", "t", "Z", "") or not _asked(process.pid):
            self._tell(Stands(rank, state))
            return
        try:
            begin = os.stat(path).st_size
            os.kill(process.pid, signal.SIGUSR2)
        except OSError:
            self._tell(Stands(rank, state))
            return
        self._looks[rank] = _Look(process, path, begin, now + WRITTEN_S)

    def look(self, now: float) -> None:
        """Once a turn: what has been written meanwhile."""
        for rank, one in [(rank, one) for rank, one in self._looks.items() if now >= one.due]:
            del self._looks[rank]
            waits, at = stacks.place(_read(one.path, one.begin))
            self._tell(Stands(rank, processes.state(one.process.pid), waits, at))

    def wait(self, now: float) -> float:
        """In how many seconds `look` is due."""
        return max(0.0, min((one.due for one in self._looks.values()), default=now + 1.0) - now)


def _asked(pid: int) -> bool:
    """Whether the process handles SIGUSR2 by itself."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGUSR2 - 1) & 1)
    return False


def _read(path: str, begin: int) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.pread(descriptor, _MOST_BYTES, begin).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
