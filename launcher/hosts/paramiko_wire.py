"""paramiko's transport and channels, changed where they would wait for ever, lose the end of a stream, or be slow.

What is changed is of paramiko's inside, hence the narrow range of versions in pyproject.toml and the tests of each.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from collections import deque
from typing import Any, ClassVar

import paramiko
from paramiko.buffered_pipe import PipeTimeout
from paramiko.common import (
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.packet import Packetizer

_STDERR_KEPT = 4000
_NORMAL = (2 << 20, 1 << 15)  # window and packet, as OpenSSH's
_BULK = (8 << 20, 1 << 18)


class _Packetizer(Packetizer):
    # A key exchange that paramiko starts itself can lock up, or cut a stream short, if a channel is closed meanwhile.
    # So we leave it to the server; these are the limits of RFC 4344 for AES, with a margin.
    REKEY_BYTES = 1 << 35
    REKEY_PACKETS = 1 << 31


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

    def feed(self, data: bytes) -> None:
        with self._lock:
            if self._fd >= 0 and data:
                self._pieces.append(data)
                self._size += len(data)
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

    def __init__(self, wire: Wire, channel: paramiko.Channel) -> None:
        self._wire, self._channel = wire, channel
        self._kept = b""

    def feed(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-_STDERR_KEPT:]
        self._wire.grant(self._channel, len(data))

    def close(self) -> None:
        """Nothing more will come."""

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")

    def read_ready(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


def _request(channel: Any, message: paramiko.Message) -> None:
    """paramiko knows exit statuses, but not that a command may end by a signal."""
    peek = paramiko.Message(message.get_remainder())
    if peek.get_text() == "exit-signal":
        peek.get_boolean()
        channel.transport.signals[channel.chanid] = signal.Signals.__members__.get(
            f"SIG{peek.get_text()}", signal.SIGKILL
        )
        channel.status_event.set()
        return
    paramiko.Channel._handle_request(channel, message)


def _refusal(channel: Any, message: paramiko.Message) -> None:
    channel.transport.refused.add(channel.chanid)
    paramiko.Channel._request_failed(channel, message)


class Wire(paramiko.Transport):
    """A connection, perhaps through another one."""

    # How long its thread sleeps when nothing comes: ten times a second, as paramiko has it, is a load with 64 hosts.
    # An end is noticed at once all the same, since `hang_up` shuts the socket down first.
    _active_check_timeout = 5.0
    # paramiko puts the fastest last.
    _preferred_ciphers = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        **paramiko.Transport._channel_handler_table,
        MSG_CHANNEL_REQUEST: _request,
        MSG_CHANNEL_FAILURE: _refusal,
    }

    def __init__(self, sock: Any, *, carrier: Wire | None = None, bulk: bool = False) -> None:
        """`sock` is a socket, or a channel of `carrier`."""
        window, packet = _BULK if bulk else _NORMAL
        super().__init__(sock, default_window_size=window, default_max_packet_size=packet, packetizer_class=_Packetizer)
        self.carrier = carrier
        self.farewell = ""  # why the server said that it hangs up
        self.signals: dict[int, int] = {}  # by channel: what ended its command
        self.refused: set[int] = set()  # channels whose command was not started

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        # Here, since the next message may be the channel's first data.
        channel = self._channels.get(paramiko.Message(message.get_remainder()).get_int())
        if channel is not None:
            channel.in_buffer, channel.in_stderr_buffer = Inbox(), Tail(self, channel)
        super()._parse_channel_open_success(message)

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()
        self.farewell = plain(message.get_text())

    def grant(self, channel: Any, count: int) -> None:
        """Tell the far side that so many bytes were taken, if that is due. From any thread."""
        due = channel._check_add_window(count)
        if not due:
            return
        own = threading.current_thread() is self
        if not (self.clear_to_send.is_set() if own else self.has_room(1.0)):
            # In a key exchange, which only this very thread can end; or on a dead link, where a reader must not wait.
            with channel.lock:
                channel.in_window_sofar += due
            return
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
        message.add_int(channel.remote_chanid)
        message.add_int(due)
        send = self._send_message if own else self._send_user_message
        send(message)

    def through(self, address: str, port: int, timeout_s: float, *, bulk: bool) -> paramiko.Channel:
        """A stream to another machine over this one. Blocks. Raises paramiko's exceptions."""
        window, packet = _BULK if bulk else _NORMAL
        return self.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), window, packet, timeout_s)

    @property
    def whole(self) -> bool:
        """Whether it, and everything below it, has not broken."""
        return self.is_active() and (self.carrier is None or self.carrier.whole)

    def has_room(self, timeout_s: float = 0.0) -> bool:
        """Whether a packet would go out without waiting; waits so long for that."""
        if self.carrier is not None and not self.sock.send_ready():
            return False
        root = self
        while root.carrier is not None:
            root = root.carrier
        poll = select.poll()
        try:
            poll.register(root.sock.fileno(), select.POLLOUT)
        except (OSError, ValueError):
            return True  # it is gone, and a write will say so
        return bool(poll.poll(timeout_s * 1000))

    def hang_up(self) -> None:
        """End the connection and its thread. May be called twice, and before it has begun."""
        with contextlib.suppress(OSError):
            if isinstance(self.sock, socket.socket):
                self.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self.close()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self.sock.close()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(2.0)
        self.packetizer.complete_handshake()  # ends the timer's thread
        if isinstance(self.sock, paramiko.Channel):
            self.sock.in_buffer.drop()


def plain(text: str) -> str:
    """What a server said, fit for a screen."""
    return "".join(char if char.isprintable() else " " for char in text)[:300].strip()
