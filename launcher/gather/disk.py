"""Writing at home what comes from hosts: inside the mirror, never through a link, and patient with a full disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launcher.errors import RunError
from worker.contract import pulling
from worker.contract.inside import Inside

FULL = (errno.ENOSPC, errno.EDQUOT)
OWN = ".gather"  # our own notes and what is half here yet, beside the host's files
COMING = f"{OWN}/coming"
_RETRY_S = 1.0

Tell = Callable[[str], None]
write_some = os.write


class StoppedError(Exception):
    """Somebody asked us to stop."""


class FullDisk:
    """One full disk is one event, however many threads write to it: told once, and once more when there is room."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._told = False

    def met(self, path: str) -> None:
        """A write met a full disk or quota."""
        with self._lock:
            told, self._told = self._told, True
        if not told:
            self._tell(f"no space left at {path}: what the hosts send waits until there is room; training goes on")

    def passed(self) -> None:
        """A write has gone well."""
        if not self._told:
            return
        with self._lock:
            told, self._told = self._told, False
        if told:
            self._tell("there is room again; gathering goes on")


class Disk:
    """The mirror of one host's folder. For one thread. Raises OSError, ValueError, StoppedError."""

    def __init__(self, home: str, full: FullDisk, stopping: threading.Event) -> None:
        self.inside = Inside(home, make=True)
        self.inside.folder(COMING, make=True)
        self.path = home
        self._full = full
        self._stopping = stopping

    def close(self) -> None:
        self.inside.close()

    def heed(self, seconds: float = 0.0) -> None:
        """Wait so long. Raises StoppedError if somebody asks us to stop."""
        if self._stopping.wait(seconds):
            raise StoppedError

    def append(self, path: str, offset: int, data: bytes | memoryview) -> None:
        """Add bytes to a file that ends at `offset`. Waits, for as long as it takes, for a full disk to have room."""
        descriptor = self.open(path)
        try:
            if os.fstat(descriptor).st_size != offset:
                raise OSError(errno.ESTALE, "somebody else has changed it", path)
            self.write(descriptor, data)
        finally:
            os.close(descriptor)

    def open(self, path: str, flags: int = 0) -> int:
        """A descriptor that appends to a file, made if need be."""
        return self.patiently(lambda: self.inside.write(path, os.O_APPEND | os.O_CREAT | flags))

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """All of it, however long the disk is full."""
        rest = memoryview(data)
        while rest:
            count = self.patiently(lambda: write_some(descriptor, rest))  # noqa: B023 - called at once
            rest = rest[count:]

    def patiently(self, act: Callable[[], int]) -> int:
        """What `act` returns once the disk has room for it. Raises StoppedError."""
        while True:
            try:
                done = act()
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._full.met(self.path)
                if self._stopping.wait(_RETRY_S):
                    raise StoppedError from error
                continue
            self._full.passed()
            return done

    def tail(self, path: str, size: int) -> str:
        """The fingerprint of the last bytes before `size`."""
        descriptor = self.inside.read(path)
        try:
            count = min(size, pulling.TAIL)
            return pulling.fingerprint(os.pread(descriptor, count, size - count))
        finally:
            os.close(descriptor)

    def free_bytes(self) -> int:
        """How much may still be written here, as far as the file system says."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize


class Notes:
    """What must be remembered of each file beside its bytes: JSON lines, the last one for a path counts.

    Written before the bytes that they are about. For one thread.
    """

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._path = f"{OWN}/{name}"
        self.of: dict[str, dict[str, Any]] = {}
        self._read()
        self._rewrite()

    def put(self, news: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember all of these."""
        for path, note in news.items():
            self.of[path] = dict(note)
        lines = b"".join(_line(path, note) for path, note in news.items())
        descriptor = self._disk.open(self._path)
        try:
            self._disk.write(descriptor, lines)
        finally:
            os.close(descriptor)

    def _read(self) -> None:
        try:
            descriptor = self._disk.inside.read(self._path)
        except OSError:
            return
        with open(descriptor, "rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
                    note = json.loads(line)
                    self.of[note.pop("path")] = note

    def _rewrite(self) -> None:
        """Drop what is out of date, and a line that was cut short."""
        fresh = self._path + ".new"
        self._disk.inside.remove(fresh)
        if not self.of:
            self._disk.inside.remove(self._path)
            return
        descriptor = self._disk.open(fresh)
        try:
            self._disk.write(descriptor, b"".join(_line(path, note) for path, note in self.of.items()))
        finally:
            os.close(descriptor)
        self._disk.inside.rename(fresh, self._path)


class Claim:
    """Two must not write the same files: a lock that ends with its process. Raises RunError if it is taken."""

    def __init__(self, home: str, what: str) -> None:
        folder = Inside(home, make=True)
        try:
            self._fd = folder.write(f"{OWN}/lock.{what}", os.O_CREAT)
        finally:
            folder.close()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise RunError(
                f"{what} of {Path(home).name} are being brought home already",
                hint="the run's coordinator does it as long as it lives: `launcher attach` shows the run",
            ) from error

    def release(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(path: str, note: Mapping[str, Any]) -> bytes:
    return json.dumps({"path": path, **note}, separators=(",", ":")).encode() + b"\n"
