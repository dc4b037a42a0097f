"""A machine over paramiko: commands on channels of one connection."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from launcher.errors import NotFitError
from launcher.hosts.paramiko_wire import Inbox, Tail, Wire
from launcher.hosts.session import Channel, Session

# Small enough to fit what a socket that can be written to has room for at least.
_MOST_AT_ONCE = 16 << 10


class ParamikoChannel(Channel):
    """A command over SSH."""

    def __init__(self, name: str, wire: Wire, channel: Any) -> None:
        self._name, self._wire, self._channel = name, wire, channel
        self._inbox: Inbox = channel.in_buffer
        self._tail: Tail = channel.in_stderr_buffer
        self._closed = False
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
        return not self._closed and (bool(self._channel.eof_received) or self.exit_status() is not None)

    def _broken(self) -> OSError:
        if self._closed:
            return OSError(errno.EBADF, "the channel is closed")
        if self._channel.chanid in self._wire.refused:
            return OSError(errno.EACCES, "the host refuses to run a command (ForceCommand, a restricted account?)")
        why = self._wire.farewell or "the connection broke"
        return ConnectionResetError(errno.ECONNRESET, why)

    def write(self, data: bytes | memoryview) -> int:
        if self._closed or self._channel.closed or not self._wire.whole:
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
                if self._channel.closed or self._closed:
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
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if self._wire.has_room():
                self._channel.close()
            else:  # a dead link, where saying good-bye would wait for ever
                with self._channel.lock:
                    self._channel._set_closed()
        self._inbox.drop()


class ParamikoSession(Session):
    """A connection of its own, perhaps through shared ones."""

    def __init__(self, name: str, wire: Wire, *, timeout_s: float) -> None:
        """`timeout_s`: how long a command's channel may take to open."""
        self.name = name
        self._wire, self._timeout_s = wire, timeout_s
        self._lock = threading.Lock()
        self._channels: set[ParamikoChannel] = set()

    def run(self, command: str) -> Channel:
        try:
            channel = ParamikoChannel(self.name, self._wire, self._wire.open_session(timeout=self._timeout_s))
            channel.start(command)
        except paramiko.ChannelException as error:
            raise NotFitError(
                f"{self.name} takes no more commands over one connection",
                hint="MaxSessions of its sshd is lower than 10, or a command that was started is still running",
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if self._wire.whole:
                raise NotFitError(f"{self.name} has not started a command for {self._timeout_s:g} s") from error
            raise NotFitError(f"the connection to {self.name} broke{self._why}") from error
        with self._lock:
            self._channels = {one for one in self._channels if not one._closed} | {channel}
        return channel

    @property
    def _why(self) -> str:
        return f": {self._wire.farewell}" if self._wire.farewell else ""

    @property
    def alive(self) -> bool:
        return self._wire.whole

    def close(self) -> None:
        with self._lock:
            channels, self._channels = self._channels, set()
        self._wire.hang_up()
        for channel in channels:
            channel.close()
