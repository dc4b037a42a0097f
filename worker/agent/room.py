"""Whether the disk of the run's folder is full: by the journal that cannot be written, or by the file system's word."""

from __future__ import annotations

import errno
import os
from typing import Optional, Sequence, Union

from .events import DiskFull, DiskRoom

LOOK_S = 1.0
LEAST = 1 << 16  # bytes; with less, the lines of logs and progress files are lost already
ENOUGH = 1 << 18  # so that a disk at the brink is not told of again and again


class Room:
    """Looks now and then, as long as ranks are alive: their files meet a full disk long before the journal does.

    And when one has ended: that may be why.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._look_at = 0.0
        self._ranks: Sequence[int] = ()
        self._full = False
        self._scarce = False  # by the file system's word

    def look(self, problem: Optional[OSError], ranks: Sequence[int], now: float) -> Optional[Union[DiskFull, DiskRoom]]:
        """What is new. `problem`: why the journal cannot be written. Raises nothing."""
        if (now >= self._look_at and (ranks or self._full)) or ranks != self._ranks:
            self._look_at, self._ranks = now + LOOK_S, ranks
            self._scarce = self._is_scarce()
        full = problem is not None or self._scarce
        if full == self._full:
            return None
        self._full = full
        if not full:
            return DiskRoom()
        why = problem.strerror if problem is not None else os.strerror(errno.ENOSPC)
        return DiskFull(f"{why}: {self._folder}")

    def _is_scarce(self) -> bool:
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return self._scarce
        if not found.f_blocks:  # a file system that does not tell
            return False
        blocks = found.f_bavail if os.geteuid() else found.f_bfree
        least = ENOUGH if self._scarce else LEAST
        return blocks * found.f_frsize < least or (found.f_files > 0 and found.f_favail == 0)
