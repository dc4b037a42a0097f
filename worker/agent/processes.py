"""Processes by their identity (pid and start time), and their certain end.

Only `/proc/PID/stat` is read on the way to a kill: unlike cmdline and environ it needs no lock of the process's memory,
so a process that hangs in the kernel does not hold up the end of the others. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time
from typing import Dict, Iterator, List, NamedTuple, Optional

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Process(NamedTuple):
    """`start_time` is in clock ticks since boot: with the boot id it tells two holders of one pid apart."""

    pid: int
    parent: int
    start_time: int


def prctl(option: int, value: int) -> None:
    """Raises OSError."""
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def name_this_process(name: str) -> None:
    """What ps and top show of it, 15 bytes at most."""
    _libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()), 0, 0, 0)


def look_up(pid: int) -> Optional[Process]:
    """The process that has this pid now, be it a zombie, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses of its own.
    fields = text[text.rfind(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[19]))


def state(pid: int) -> str:
    """The letter of its state, `T` for one that is stopped; empty if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return ""
    return text[text.rfind(b")") + 2 :][:1].decode("ascii", "replace")


def everyone() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = look_up(int(name))
            if process is not None:
                yield process


def descendants(root: int) -> List[Process]:
    """Every process below `root`, whatever its session or group, parents first."""
    children: Dict[int, List[Process]] = {}
    for process in everyone():
        children.setdefault(process.parent, []).append(process)
    found: List[Process] = []
    waiting = list(children.get(root, []))
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children.pop(process.pid, [])
    return found


def kill(process: Process) -> None:
    """SIGKILL to this very process: never to another that has got its pid since."""
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        if _is_same(process):
            _try_kill(process.pid)
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except OSError:  # a kernel or a sandbox without it
        if _is_same(process):
            _try_kill(process.pid)
        return
    try:
        # The descriptor holds whoever has the pid now; the start time tells whether that is the one who was meant.
        if _is_same(process):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _is_same(process: Process) -> bool:
    now = look_up(process.pid)
    return now is not None and now.start_time == process.start_time


def _try_kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def end_descendants() -> None:
    """Kill every descendant and reap it, until none is left. Blocks; the caller must be a child subreaper.

    A killed process can have no further child, and its children come to us: so each pass leaves fewer.
    """
    me = os.getpid()
    pause = 0.001
    while _reap_all():
        for process in descendants(me):
            kill(process)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


def _reap_all() -> bool:
    """Reap whoever has ended; False if there is no child at all."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def end_marked(entry: bytes, deadline_s: float) -> None:
    """Kill every process with this `NAME=value` in its environment, except the caller's own ancestors.

    The net for what outlived an agent and its warden both. Reading a process's environment may hang, so a child does
    it, and is left alone after the deadline.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _kill_marked(entry)
        finally:
            os._exit(0)
    os.close(writer)
    done, _, _ = select.select([reader], [], [], deadline_s)
    os.close(reader)
    if not done:
        _try_kill(child)
    os.waitpid(child, 0 if done else os.WNOHANG)


def _kill_marked(entry: bytes) -> None:
    spared = {os.getpid()}
    above: Optional[Process] = look_up(os.getpid())
    while above is not None and above.parent > 0:
        spared.add(above.parent)
        above = look_up(above.parent)
    for process in everyone():
        try:
            if process.pid not in spared:
                with open(f"/proc/{process.pid}/environ", "rb") as file:
                    if entry in file.read().split(b"\0"):
                        kill(process)
        except OSError:  # another user's, or gone
            continue
