"""Turn a function into a process of its own session that no terminal can end."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from launcher.supervise.foreground import Foreground, Front, GivenUpError, attend

Body = Callable[[Foreground], None]


def start(body: Body, log: Path, front: Front) -> bool:
    """Run `body(foreground)` in a daemon; returns once it has called `ready` (True), or ended without a word (False).

    The daemon is forked, not started anew: it carries out the very values that the caller holds, and needs no second
    start of Python. The caller must have no other thread. What the daemon prints goes to `log`. Raises the error that
    the daemon handed over.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _become_daemon(body, theirs, log)
    theirs.close()
    os.waitpid(child, 0)
    with ours:
        return attend(ours, front)


def _become_daemon(body: Body, end: socket.socket, log: Path) -> None:
    """Never returns. Forks once more, so that the daemon is nobody's child and can gain no terminal."""
    code = 1
    try:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        os.umask(0o077)
        _redirect(log, keep=end.fileno())
        body(Foreground(end))
        code = 0
    except GivenUpError:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _redirect(log: Path, keep: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # Whatever the caller had made of them.
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    top = os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 1024
    for descriptor in _open_descriptors(top):
        if descriptor > 2 and descriptor != keep:
            try:
                os.close(descriptor)
            except OSError:
                continue


def _open_descriptors(top: int) -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:
        return list(range(3, top))
