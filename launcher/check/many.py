"""The same for many hosts at once: a thread each while it lasts. One bad host never hides another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from launcher.errors import LauncherError, NotFitError

T = TypeVar("T")
# What is being done, and the hosts that have not answered yet.
Tell = Callable[[str, Sequence[str]], None]
AT_ONCE = 64
_TOLD_EVERY_S = 0.5


def untold(what: str, waiting: Sequence[str]) -> None:
    """For who tells nobody."""


def each(
    hosts: Sequence[str], do: Callable[[str], T], *, what: str = "", tell: Tell = untold
) -> tuple[dict[str, T], dict[str, LauncherError]]:
    """({host: result}, {host: its error}) of `do(host)`, in the order of the hosts. `do` has its own deadlines.

    `tell` is called in this thread, at the start and now and then, with the hosts that are waited for. The threads do
    not keep a process that is interrupted.
    """
    todo: queue.SimpleQueue[str] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[str, T | BaseException]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            try:
                host = todo.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((host, do(host)))
            except BaseException as error:
                ended.put((host, error))

    for host in hosts:
        todo.put(host)
    for _ in range(min(AT_ONCE, len(hosts))):
        threading.Thread(target=work, daemon=True).start()
    done: dict[str, T] = {}
    failed: dict[str, LauncherError] = {}
    waiting = list(hosts)
    while waiting:
        tell(what, waiting)
        try:
            host, result = ended.get(timeout=_TOLD_EVERY_S)
        except queue.Empty:
            continue
        waiting.remove(host)
        if isinstance(result, LauncherError):
            failed[host] = result
        elif isinstance(result, OSError):
            failed[host] = NotFitError(f"{host}: {what} failed: {result.strerror or result}")
        elif isinstance(result, BaseException):
            raise result
        else:
            done[host] = result
    return {host: done[host] for host in hosts if host in done}, {h: failed[h] for h in hosts if h in failed}
