"""A machine over SSH: a stream is the channel of a relay, served by a thread: no slow link holds up anybody."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable

from launcher.errors import LauncherError, NotFitError
from launcher.hosts import door
from launcher.hosts.base import Host, RunOnHost, Stream
from launcher.hosts.session import Channel, Session
from launcher.spec.model import HostSpec

_PIECE = 1 << 16
_FULL_S = 0.05  # between two looks at a channel that takes nothing


class SshHost(Host):
    """A machine that is reached through sessions; a broken one is replaced when it is next needed."""

    remote = True

    def __init__(self, spec: HostSpec, connect: Callable[[], Session], session: Session | None = None) -> None:
        self.name = spec.name
        self._workdir = spec.workdir
        self._connect = connect
        self._session = session
        self._visit: Channel | None = None
        self._connecting = threading.Lock()  # of whoever makes a session; held as long as that takes
        self._closed = False
        self._lock = threading.Lock()  # of the session that there is; never held for long

    def session(self) -> Session:
        """A session that is alive as far as is known; a fresh one if need be. Blocks. Raises NotFitError."""
        with self._connecting:
            with self._lock:
                session = self._session
                if session is not None and session.alive:
                    return session
                self._session = None
            if session is not None:
                session.close()
            session = self._connect()
            with self._lock:
                if not self._closed:
                    self._session = session
                    return session
        session.close()
        raise NotFitError(f"{self.name}: its connections were ended while another one was being made")

    def drop(self) -> None:
        """Give up the session, however alive it looks: the next one is fresh. Does not wait for it to end.

        One that is being made is not given up, and not waited for: a host that does not answer holds up nobody else.
        """
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            threading.Thread(target=session.close, daemon=True).start()

    def close(self) -> None:
        """End the session, and every stream through it; for good."""
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def take_over(self, visit: Channel) -> None:
        """The first stream goes over this channel, on which a visit that has answered waits for its `reach`."""
        self._visit = visit

    def open(self, target: RunOnHost, *, start: bool) -> Stream:
        visited = self._visit is not None
        try:
            return super().open(target, start=start)
        except NotFitError:
            if not visited:
                raise
            return super().open(target, start=start)  # the visit has ended meanwhile: by a door of its own

    def _open(self, target: RunOnHost) -> Stream:  # noqa: ARG002 - the door knows which code to run
        visit, self._visit = self._visit, None
        if visit is not None:
            return SshStream(self.name, lambda: visit)
        return SshStream(self.name, lambda: door.enter(self.session(), "relay", workdir=self._workdir))


class SshStream(Stream):
    """A relay on another machine. Opening it, too, happens in its thread: an error shows as the stream's end."""

    def __init__(self, name: str, open_channel: Callable[[], Channel]) -> None:
        super().__init__()
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._complaint = ""
        threading.Thread(target=self._serve, args=(open_channel, theirs), name=f"stream {name}", daemon=True).start()

    def fileno(self) -> int:
        return self._ours.fileno()

    def _read(self) -> bytes | None:
        try:
            return self._ours.recv(_PIECE)
        except BlockingIOError:
            return None

    def _write(self, data: bytes) -> int:
        try:
            return self._ours.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._ours.close()

    def complaint(self) -> str:
        return self._complaint

    def _serve(self, open_channel: Callable[[], Channel], theirs: socket.socket) -> None:
        with theirs:
            try:
                channel = open_channel()
            except LauncherError as error:
                self._complaint = error.message
                return
            try:
                _pump(theirs, channel)
            except OSError as error:
                why = error.strerror or str(error)
                self._complaint = why if why.startswith("the connection") else f"the connection broke: {why}"
            finally:
                self._complaint = self._complaint or channel.errors().strip()
                channel.close()


def _pump(end: socket.socket, channel: Channel) -> None:
    """Both ways until either side has closed. Raises OSError when the connection breaks."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    poll.register(end, select.POLLIN)
    to_host = b""
    while True:
        if to_host:
            to_host = to_host[channel.write(to_host) :]
        ready = dict(poll.poll(_FULL_S * 1000 if to_host else None))
        if channel.fileno() in ready:
            while data := channel.read():
                end.sendall(data)
            if data is not None:
                return
        if end.fileno() in ready and not to_host:
            with contextlib.suppress(BlockingIOError):
                to_host = end.recv(_PIECE, socket.MSG_DONTWAIT)
                if not to_host:
                    return
