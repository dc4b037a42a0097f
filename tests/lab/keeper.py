"""What stands for a machine's process 1: it starts the sshd given as its arguments, and everything that is ever started
through that is its descendant, since orphans fall to it. When its input ends, all of them are killed.

Reads lines: `start`, `kill` (sshd and its connections; what was started through them lives on, as on a machine whose
sshd died) and `crash` (everything, as when the power fails). Each is answered with a line once it is so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

_SET_CHILD_SUBREAPER = 36


def reap(*_: object) -> None:
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return


def descendants() -> list[tuple[int, str]]:
    """(pid, name) of every living process below this one."""
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat", encoding="utf-8", errors="replace") as file:
                    head, _, tail = file.read().rpartition(")")
            except OSError:
                continue
            children.setdefault(int(tail.split()[1]), []).append((int(entry.name), head.partition("(")[2]))
    found: list[tuple[int, str]] = []
    ahead = [os.getpid()]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += [pid for pid, _ in below]
    return found


def end(condemned: Callable[[str], bool]) -> None:
    """SIGKILL until none is left: a process can fork while it is looked for."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        reap()
        victims = [pid for pid, name in descendants() if condemned(name)]
        if not victims:
            return
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def main() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, reap)
    while True:
        order = sys.stdin.readline().strip()
        if order == "start":
            subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        elif order == "kill":
            end(lambda name: name.startswith("sshd"))
        else:
            end(lambda _: True)
            if not order:
                return
        print(order, flush=True)


if __name__ == "__main__":
    main()
