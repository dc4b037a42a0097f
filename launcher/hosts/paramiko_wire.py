"""paramiko's transport and channels, changed where they would wait for ever, lose the end of a stream, or be slow.

What is changed is of paramiko's inside, hence the narrow range of versions in pyproject.toml and the tests of each.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import paramiko
from paramiko.common import (
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_WINDOW_ADJUST,
    cMSG_GLOBAL_REQUEST,
)

from launcher.hosts.paramiko_inbox import Inbox, Tail
from launcher.hosts.paramiko_packets import Packets

_CHANNEL: Any = paramiko.Channel
_TRANSPORT: Any = paramiko.Transport
_A_MOMENT_S = 1.0
_NORMAL = (2 << 20, 1 << 15)  # window and packet, as OpenSSH's
_BULK = (8 << 20, 1 << 18)


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
    _CHANNEL._handle_request(channel, message)


def _refusal(channel: Any, message: paramiko.Message) -> None:
    channel.transport.refused.add(channel.chanid)
    _CHANNEL._request_failed(channel, message)


class RefusedError(Exception):
    """The host opens no such channel; `code` is RFC 4254's reason (1: forbidden, 2: it cannot connect, 4: no room)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Wire(paramiko.Transport):
    """A connection, perhaps through another one."""

    # How long its thread sleeps when nothing comes: ten times a second, as paramiko has it, is a load with 64 hosts.
    # An end is noticed at once all the same, since `hang_up` shuts the socket down first.
    _active_check_timeout = 5.0
    # paramiko puts the fastest last.
    _preferred_ciphers = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        **_TRANSPORT._channel_handler_table,
        MSG_CHANNEL_REQUEST: _request,
        MSG_CHANNEL_FAILURE: _refusal,
    }

    key_types: ClassVar[tuple[str, ...]] = _TRANSPORT._preferred_keys  # of hosts

    def __init__(self, sock: Any, *, carrier: Wire | None = None, bulk: bool = False) -> None:
        """`sock` is a socket, or a channel of `carrier`."""
        window, packet = _BULK if bulk else _NORMAL
        super().__init__(sock, default_window_size=window, default_max_packet_size=packet, packetizer_class=Packets)
        # Not a cycle: what a connection holds, descriptors among it, is to go with its last user.
        me = weakref.ref(self)
        self.packetizer.inbox_of = lambda number: wire._inbox_of(number) if (wire := me()) else None
        self.carrier = carrier
        self.farewell = ""  # why the server said that it hangs up
        self.signals: dict[int, int] = {}  # by channel: what ended its command
        self.refused: set[int] = set()  # channels whose command was not started
        self._opening = threading.local()
        self._refusals: dict[int, RefusedError] = {}

    if TYPE_CHECKING:  # what is used of paramiko's inside
        sock: Any
        auth_handler: Any
        server_extensions: dict[str, bytes]
        packetizer: Any
        _channels: Any
        _expected_packet: tuple[int, ...]
        _send_message: Callable[[paramiko.Message], None]
        _send_user_message: Callable[[paramiko.Message], None]
        _auth_trigger: Callable[[], None]

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        # Here, since the next message may be the channel's first data.
        channel = self._channels.get(paramiko.Message(message.get_remainder()).get_int())
        if channel is not None:
            channel.in_buffer = Inbox()
            channel.in_stderr_buffer = Tail(partial(self.grant, channel))
        _TRANSPORT._parse_channel_open_success(self, message)

    def _inbox_of(self, number: int) -> Inbox | None:
        """Where a channel's data goes without paramiko's help; in a key exchange, paramiko has its say."""
        channel = None if self._expected_packet else self._channels.get(number)
        inbox = None if channel is None else channel.in_buffer
        return inbox if isinstance(inbox, Inbox) else None

    def _next_channel(self) -> int:
        number: int = _TRANSPORT._next_channel(self)
        self._opening.number = number
        return number

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        # paramiko keeps one reason for all; of two threads that open channels, one would get the other's.
        peek = paramiko.Message(message.get_remainder())
        number, code, text = peek.get_int(), peek.get_int(), plain(peek.get_text())
        self._refusals[number] = RefusedError(code, text)
        _TRANSPORT._parse_channel_open_failure(self, message)

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

    def open_for_command(self, timeout_s: float) -> paramiko.Channel:
        """Blocks. Raises RefusedError, OSError, EOFError or paramiko's exceptions."""
        return self._open("session", None, None, None, None, timeout_s)

    def through(self, address: str, port: int, timeout_s: float, *, bulk: bool) -> paramiko.Channel:
        """A stream to another machine over this one. Blocks. Raises what `open_for_command` does."""
        window, packet = _BULK if bulk else _NORMAL
        return self._open("direct-tcpip", (address, port), ("127.0.0.1", 0), window, packet, timeout_s)

    def _open(self, kind: str, to: Any, of: Any, window: Any, packet: Any, timeout_s: float) -> paramiko.Channel:
        if not self.has_room(timeout_s):  # on a dead link, asking would wait for ever
            raise TimeoutError(f"nothing goes out for {timeout_s:g} s")
        self._opening.number = -1
        try:
            return self.open_channel(kind, to, of, window, packet, timeout_s)
        except paramiko.SSHException:
            refusal = self._refusals.pop(self._opening.number, None)
            if refusal is not None:
                raise refusal from None
            raise

    @property
    def whole(self) -> bool:
        """Whether it, and everything below it, has not broken."""
        return self.is_active() and (self.carrier is None or self.carrier.whole)

    def answers(self, timeout_s: float) -> bool:
        """Whether the far side is alive: something came from it a moment ago, or comes within so long if it is asked.

        A connection that a cut or a suspended laptop has killed looks whole until TCP gives up.
        """
        packets: Any = self.packetizer
        asked = time.monotonic()
        if self.whole and packets.heard_at > asked - _A_MOMENT_S:
            return True
        if not self.has_room(timeout_s):
            return False
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._send_user_message(message)
        while self.whole and time.monotonic() - asked < timeout_s:
            if packets.heard_at > asked:
                return True
            time.sleep(0.005)
        return False

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
            elif self.carrier is not None and not self.carrier.has_room():
                with self.sock.lock:  # on a dead link, saying good-bye would wait for ever
                    self.sock._set_closed()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self.close()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self.sock.close()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(2.0)
        self.packetizer.complete_handshake()  # ends the timer's thread
        if self.carrier is not None:
            self.sock.in_buffer.drop()


def plain(text: str) -> str:
    """What a server said, fit for a screen."""
    return "".join(char if char.isprintable() else " " for char in text)[:300].strip()
