"""What channels have brought: in place of paramiko's buffers."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

from paramiko.buffered_pipe import PipeTimeout

_STDERR_KEPT = 4000


class Inbox:
    """What a channel has brought and nobody has read: filled by the transport's thread, pollable, as big as the window.

    Stands in for paramiko's BufferedPipe, which moves all that it holds with every read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: deque[bytes | memoryview] = deque()
        self._size = 0
        self._over = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def feed(self, data: bytes | memoryview) -> None:
        with self._lock:
            if self._fd >= 0 and data:
                first = not self._pieces
                self._pieces.append(data)
                self._size += len(data)
                if first:  # else it is readable already; last, since who wakes up looks at the size without the lock
                    os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._over = True
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def take(self, most: int) -> bytes | None:
        """Up to so many bytes; None if there are none yet, empty if there will be none."""
        with self._lock:
            if not self._pieces:
                return b"" if self._over else None
            taken: list[bytes | memoryview] = []
            room = most
            while self._pieces and room:
                piece = self._pieces.popleft()
                if len(piece) > room:
                    self._pieces.appendleft(memoryview(piece)[room:])
                    piece = memoryview(piece)[:room]
                taken.append(piece)
                room -= len(piece)
            self._size -= most - room
            if not self._pieces and not self._over and self._fd >= 0:
                os.eventfd_read(self._fd)
            return b"".join(taken)

    def read(self, most: int, timeout: float | None = None) -> bytes:
        """As BufferedPipe's: blocks. For the channel that carries a connection through a jump host."""
        taken = self.take(most)
        while taken is None:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise PipeTimeout
            taken = self.take(most)
        return taken

    def drop(self) -> None:
        """Forget everything and give the descriptor back."""
        with self._lock:
            self._pieces.clear()
            self._size, self._over = 0, True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __del__(self) -> None:
        self.drop()

    def read_ready(self) -> bool:
        return bool(self._pieces)

    def __len__(self) -> int:
        return self._size


class Tail:
    """The end of what a channel has brought on standard error. Whatever comes is acknowledged at once."""

    def __init__(self, taken: Callable[[int], None]) -> None:
        """`taken` is told of so many bytes that need not be kept for anyone."""
        self._taken = taken
        self._kept = b""

    def feed(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-_STDERR_KEPT:]
        self._taken(len(data))

    def close(self) -> None:
        """Nothing more will come."""

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")

    def read_ready(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0
