"""What /proc tells others of a zygote and of the ranks that are forked off it: it shows the memory in which the zygote
was given its argv and environment. Nothing depends on it, so what cannot be written is left as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from ..agent import origin
from ..contract import names


def show_rank(rank: int) -> None:
    """Be known as this rank."""
    name = f"{names.RANK}=".encode()

    def changed(shown: bytes) -> bytes:
        for old, new in (
            (b"\0zygote\0", b"\0train\0"),
            (b"\0" + name + origin.NO_RANK.encode(), b"\0" + name + b"%08d" % rank),
        ):
            shown = shown.replace(old, new.ljust(len(old), b"\0"), 1)
        return shown

    with contextlib.suppress(OSError, ValueError, IndexError):
        _rewrite(changed)


def show_run(marked: Mapping[str, str]) -> None:
    """Be known as a process of another run. Nothing of this process may look its old marks up any more."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        _rewrite(lambda shown: origin.remarked(shown, marked))


def _rewrite(change: Callable[[bytes], bytes]) -> None:
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[48])  # of argv and, behind it, the environment
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(begin)
        shown = memory.read(end - begin)
        now = change(shown)
        if now != shown and len(now) == len(shown):
            memory.seek(begin)
            memory.write(now)
