"""Turn a function into a process of its own session that no terminal can end."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path


def start(body: Callable[[Callable[[], None]], None], log: Path) -> bool:
    """Run `body(ready)` in a daemon; returns once it has called `ready` (True), or ended without (False).

    The daemon is forked, not started anew: it carries out the very values that the caller holds, and needs no second
    start of Python. The caller must have no other thread. What the daemon prints goes to `log`.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become_daemon(body, writing, log)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read(1) == b"+"


def _become_daemon(body: Callable[[Callable[[], None]], None], writing: int, log: Path) -> None:
    """Never returns. Forks once more, so that the daemon is nobody's child and can gain no terminal."""
    code = 1
    try:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        os.umask(0o077)
        _redirect(log, keep=writing)

        def ready() -> None:
            os.write(writing, b"+")
            os.close(writing)

        body(ready)
        code = 0
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
