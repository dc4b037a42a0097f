"""The kernel's word that something in a folder has changed, where it gives one. Only ever a reason to look sooner."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Optional, Set

_MODIFY, _MOVED_TO, _CREATE, _ONLYDIR = 0x2, 0x80, 0x100, 0x01000000
_MOST_WATCHED = 256


class Watcher:
    """Watches folders. Raises OSError, from its constructor only, where the kernel has no inotify left for us."""

    def __init__(self) -> None:
        self._libc = _libc()
        self._fd = -1
        if self._libc is not None:
            self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(0, "no inotify")
        self._watched: Set[str] = set()

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def watch(self, name: str, folder: int) -> None:
        """Watch an open folder from now on; quietly not, if that is refused."""
        if name in self._watched or len(self._watched) >= _MOST_WATCHED:
            return
        assert self._libc is not None
        path = b"/proc/self/fd/%d" % folder  # by descriptor, so that no link on the way is followed
        if self._libc.inotify_add_watch(self._fd, path, _MODIFY | _CREATE | _MOVED_TO | _ONLYDIR) >= 0:
            self._watched.add(name)

    def drain(self) -> None:
        """Forget what was told: whoever looks now sees it."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._fd, 1 << 16)) > 1 << 15:
                pass


def watcher() -> Optional[Watcher]:
    """A Watcher, or None where looking again and again has to do."""
    try:
        return Watcher()
    except OSError:
        return None


def _libc() -> Any:
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        return libc if hasattr(libc, "inotify_init1") else None
    except (ImportError, OSError):
        return None
