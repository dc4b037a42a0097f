"""The protocol of OpenSSH's control sockets (PROTOCOL.mux of its sources, version 4): commands over a connection that
a control master holds.

`ssh -S` speaks it, too. But `ssh -S` logs in anew, unasked, when the host takes no more sessions on a connection, and
shows a command that was killed and a connection that broke by the same exit code; and it is one more process for every
command.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from enum import IntEnum

_VERSION = 4
_MOST = 1 << 18  # bytes of one message: OpenSSH's own limit
_NO_ESCAPE = 0xFFFFFFFF


class Kind(IntEnum):
    """The messages that are used here."""

    HELLO = 0x00000001
    NEW_SESSION = 0x10000002
    ALIVE_CHECK = 0x10000004
    PERMISSION_DENIED = 0x80000002
    FAILURE = 0x80000003
    EXIT_MESSAGE = 0x80000004
    ALIVE = 0x80000005
    SESSION_OPENED = 0x80000006


class RefusedError(Exception):
    """The host starts no further command on this connection; the message says why."""


class Line:
    """A connection to a control master: one command, or one question."""

    def __init__(self, path: str) -> None:
        """Raises OSError: the master is gone, or has been too busy to take it for seconds."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._buffer = bytearray()
        self.ended = False  # the master has hung up
        try:
            self._socket.settimeout(5)
            self._socket.connect(path)
            self._socket.setblocking(False)
            self._send(struct.pack(">II", Kind.HELLO, _VERSION))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """A command on it gets the end of its input, and nobody reads its output. May be called twice."""
        self._socket.close()

    def ask_whether_alive(self) -> None:
        """Ask for an ALIVE. Raises OSError."""
        self._send(struct.pack(">II", Kind.ALIVE_CHECK, 1))

    def open(self, command: str, fds: tuple[int, int, int], timeout_s: float) -> None:
        """Start a command with these as its standard input, output and errors; blocks until the host has agreed.

        Raises RefusedError, TimeoutError, or OSError when the master is gone.
        """
        fields = struct.pack(">IIIIIIII", Kind.NEW_SESSION, 1, 0, 0, 0, 0, 0, _NO_ESCAPE)
        self._send(fields + _string("") + _string(command))
        for fd in fds:
            socket.send_fds(self._socket, [b"\0"], [fd])
        deadline = time.monotonic() + timeout_s
        while True:
            for kind, body in self.receive():
                if kind == Kind.SESSION_OPENED:
                    return
                if kind in (Kind.FAILURE, Kind.PERMISSION_DENIED):
                    raise RefusedError(body[8:].decode("utf-8", "replace"))
            if self.ended:
                raise ConnectionResetError("the control master hung up")
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                if not self._socket.recv(1, socket.MSG_PEEK):
                    self.ended = True
            finally:
                self._socket.setblocking(False)
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer for {timeout_s:g} s")

    def receive(self) -> Iterator[tuple[int, bytes]]:
        """(kind, what follows it) of every message that has come; never waits."""
        while not self.ended:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.ended = not data
            self._buffer += data
        while len(self._buffer) >= 8:
            (size,) = struct.unpack(">I", self._buffer[:4])
            if not 4 <= size <= _MOST:
                self.ended = True
                return
            if len(self._buffer) < 4 + size:
                return
            (kind,) = struct.unpack(">I", self._buffer[4:8])
            body = bytes(self._buffer[8 : 4 + size])
            del self._buffer[: 4 + size]
            yield kind, body

    def _send(self, message: bytes) -> None:
        # A fresh socket has room for all that is ever sent here: some hundred bytes.
        self._socket.sendall(struct.pack(">I", len(message)) + message)


def exit_status(body: bytes) -> int | None:
    """The exit status that an EXIT_MESSAGE tells."""
    with contextlib.suppress(struct.error):
        return int(struct.unpack(">II", body[:8])[1])
    return None


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">I", len(data)) + data
