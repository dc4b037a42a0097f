"""What channels have in common whose command speaks through pipes of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import tempfile
from pathlib import Path

from launcher.hosts.session import Channel

_TAIL = 4000
_MOST = 1 << 20
_PIPE = 1 << 18


class Complaints:
    """Where a command's standard error goes: a file that is nowhere, of which only the end is kept."""

    def __init__(self) -> None:
        self._freed = 0
        self._fd, path = tempfile.mkstemp(prefix="launcher-")
        Path(path).unlink()
        # Whoever writes must go on at the end, wherever that is after `trim`.
        fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) | os.O_APPEND)

    def fileno(self) -> int:
        return self._fd

    def text(self, most: int = _TAIL) -> str:
        """The last bytes of it, as text; empty after `close`."""
        return self._tail(most).decode("utf-8", "replace")

    def trim(self) -> None:
        """Forget all but the end, if there is much: a command may complain without end, the disk is not so large."""
        with contextlib.suppress(OSError):
            size = os.fstat(self._fd).st_size
            if size - self._freed <= _MOST:
                return
            if free_space(self._fd, size - _TAIL):
                self._freed = size - _TAIL
                return
            tail = self._tail(_TAIL)
            os.ftruncate(self._fd, 0)  # what comes between these two lines is lost
            os.write(self._fd, tail)

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _tail(self, most: int) -> bytes:
        try:
            return os.pread(self._fd, most, max(0, os.fstat(self._fd).st_size - most))
        except OSError:
            return b""


def free_space(fd: int, size: int) -> bool:
    """Give the disk back the first bytes of a file, which keeps its length and what comes after them, also what is
    written at this very moment. False if the file system cannot."""
    libc = ctypes.CDLL(None)
    fallocate = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)  # glibc, musl; else neither
    keep_size, punch_hole = 0x01, 0x02  # linux/falloc.h
    return fallocate is not None and fallocate(fd, keep_size | punch_hole, ctypes.c_int64(0), ctypes.c_int64(size)) == 0


class Pipes:
    """The three streams of a command that is about to start: our ends, and those that it gets."""

    def __init__(self) -> None:
        """Raises OSError when there are no more descriptors to be had."""
        with contextlib.ExitStack() as stack:
            self.errors = Complaints()
            stack.callback(self.errors.close)
            self.theirs_in, self.stdin = os.pipe()
            stack.callback(self.close_theirs)
            stack.callback(os.close, self.stdin)
            self.theirs_out = -1
            self.stdout, self.theirs_out = os.pipe()
            stack.pop_all()
        for fd in (self.stdin, self.stdout):
            os.set_blocking(fd, False)
            # A user may have only so much of large pipes; small ones are slower, that is all.
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)

    def close_theirs(self) -> None:
        """Once the command has them. May be called twice."""
        for fd in (self.theirs_in, self.theirs_out):
            if fd >= 0:
                os.close(fd)
        self.theirs_in = self.theirs_out = -1

    def close(self) -> None:
        """If nothing came of it."""
        self.close_theirs()
        os.close(self.stdin)
        os.close(self.stdout)
        self.errors.close()


class PipeChannel(Channel):
    """A command whose streams are pipes. Who starts, watches and ends it is told by the subclass."""

    def __init__(self, pipes: Pipes) -> None:
        """Takes over our ends of `pipes`."""
        self._stdin, self._stdout, self._errors = pipes.stdin, pipes.stdout, pipes.errors

    def fileno(self) -> int:
        return self._stdout

    def read(self, most: int = 1 << 18) -> bytes | None:
        self._errors.trim()
        try:
            return os.read(self._stdout, most)
        except BlockingIOError:
            return None

    def write(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._stdin, data)
        except BlockingIOError:
            return 0

    def wait_writable(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._stdin, select.POLLOUT)
        return bool(poll.poll(max(0, int(timeout_s * 1000))))

    def end_input(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def errors(self) -> str:
        return self._errors.text()

    def close(self) -> None:
        self.end_input()
        if self._stdout >= 0:
            os.close(self._stdout)
            self._stdout = -1
        self._errors.close()
