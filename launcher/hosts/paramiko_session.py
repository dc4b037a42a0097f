"""A machine over paramiko: commands on channels of one connection."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from launcher.errors import NotFitError
from launcher.hosts.paramiko_inbox import Inbox, Tail
from launcher.hosts.paramiko_wire import RefusedError, Wire
from launcher.hosts.session import Channel, Session

# Small enough to fit what a socket that can be written to has room for at least.
_MOST_AT_ONCE = 16 << 10


class ParamikoChannel(Channel):
    """A command over SSH."""

    def __init__(self, wire: Wire, channel: Any) -> None:
        self._wire, self._channel = wire, channel
        self._inbox: Inbox = channel.in_buffer
        self._tail: Tail = channel.in_stderr_buffer
        self.closed = False
        channel.settimeout(0.0)

    def start(self, command: str) -> None:
        """Ask for the command. If the host refuses it, reading says so: waiting here would cost a round trip."""
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(self._channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(command)
        self._wire._send_user_message(message)

    def fileno(self) -> int:
        return self._inbox.fileno()

    def read(self, most: int = 1 << 18) -> bytes | None:
        data = self._inbox.take(most)
        if data:
            with contextlib.suppress(EOFError, paramiko.SSHException):
                self._wire.grant(self._channel, len(data))
        elif data is not None and not self._ended_by_host:
            raise self._broken()
        return data

    @property
    def _ended_by_host(self) -> bool:
        """Whether the host said that there is no more; paramiko ends a stream alike when the connection breaks."""
        return not self.closed and (bool(self._channel.eof_received) or self.exit_status() is not None)

    def _broken(self) -> OSError:
        if self.closed:
            return OSError(errno.EBADF, "the channel is closed")
        if self._channel.chanid in self._wire.refused:
            return OSError(errno.EACCES, "the host refuses to run a command (ForceCommand, a restricted account?)")
        why = self._wire.farewell or "the connection broke"
        return ConnectionResetError(errno.ECONNRESET, why)

    def write(self, data: bytes | memoryview) -> int:
        if self.closed or self._channel.closed or not self._wire.whole:
            raise self._broken()
        if self._channel.eof_sent:
            raise BrokenPipeError(errno.EPIPE, "its input was ended")
        if not data or not self._wire.has_room():
            return 0
        try:
            sent: int = self._channel.send(bytes(data[:_MOST_AT_ONCE]))
        except TimeoutError:
            return 0  # the command has not taken what it was sent
        except (EOFError, paramiko.SSHException) as error:
            raise self._broken() from error
        if not sent or not self._wire.whole:
            raise self._broken()
        return sent

    def wait_writable(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while True:
            left = end - time.monotonic()
            with self._channel.lock:
                if self._channel.closed or self.closed:
                    return True
                if not self._channel.out_window_size and left > 0:
                    self._channel.out_buffer_cv.wait(left)
                granted = self._channel.out_window_size > 0 or self._channel.closed
            if granted and self._wire.has_room(max(0.0, end - time.monotonic())):
                return True
            if left <= 0:
                return False
            if granted:  # then a jump host's window is shut, which nobody tells
                time.sleep(0.01)

    def end_input(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def errors(self) -> str:
        return self._tail.text

    def exit_status(self) -> int | None:
        by_signal = self._wire.signals.get(self._channel.chanid)
        if by_signal is not None:
            return -by_signal
        status: int = self._channel.exit_status
        return None if status == -1 else status

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if self._wire.has_room():
                self._channel.close()
            else:  # a dead link, where saying good-bye would wait for ever
                with self._channel.lock:
                    self._channel._set_closed()
        self._inbox.drop()


class ParamikoSession(Session):
    """A connection of its own, perhaps through shared ones; further ones, if the host takes no more commands on it."""

    def __init__(self, name: str, connect: Callable[[], Wire], *, timeout_s: float) -> None:
        """`connect` blocks and raises NotFitError. `timeout_s`: how long a command's channel may take to open."""
        self.name = name
        self._connect, self._timeout_s = connect, timeout_s
        self._lock, self._growing = threading.Lock(), threading.Lock()
        self._closed = False
        self._channels: set[ParamikoChannel] = set()
        self._wires = [connect()]

    def run(self, command: str) -> Channel:
        for wire in reversed(self._wires):
            with contextlib.suppress(RefusedError):
                return self._start(wire, command)
        with self._growing:  # MaxSessions of its sshd is reached
            wire = self._connect()
            with self._lock:
                if not self._closed:
                    self._wires = [*self._wires, wire]
        if self._closed:
            wire.hang_up()
        try:
            return self._start(wire, command)
        except RefusedError as error:
            raise NotFitError(
                f"{self.name} runs no commands for us, though it lets us in",
                hint="its sshd_config forbids it: MaxSessions 0, or a Match block that applies to this user",
            ) from error

    def _start(self, wire: Wire, command: str) -> Channel:
        """Raises NotFitError; RefusedError if the connection takes no more commands."""
        try:
            channel = ParamikoChannel(wire, wire.open_for_command(self._timeout_s))
            channel.start(command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if wire.whole:
                raise NotFitError(f"{self.name} has not started a command for {self._timeout_s:g} s") from error
            why = f": {wire.farewell}" if wire.farewell else ""
            raise NotFitError(f"the connection to {self.name} broke{why}") from error
        with self._lock:
            self._channels = {one for one in self._channels if not one.closed} | {channel}
        return channel

    @property
    def alive(self) -> bool:
        return not self._closed and all(wire.whole for wire in self._wires)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            channels, self._channels = self._channels, set()
        for wire in self._wires:
            wire.hang_up()
        for channel in channels:
            channel.close()
