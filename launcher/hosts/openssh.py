"""`transport: openssh`: the system's `ssh` logs in, with whatever its config, agents and hardware can do, and commands
go through its control master.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import NotFitError
from launcher.hosts.mux import Line, RefusedError
from launcher.hosts.openssh_ask import Asker
from launcher.hosts.openssh_channel import OpensshChannel
from launcher.hosts.openssh_gates import reach
from launcher.hosts.openssh_login import login_of
from launcher.hosts.openssh_master import How, Master
from launcher.hosts.pipe_channel import Pipes
from launcher.hosts.session import Channel, Session
from launcher.spec.model import HostSpec

_OPEN_S = 30.0
_REFUSED_S = 1.0


@dataclass(eq=False)
class _Lane:
    """A login of a session."""

    master: Master
    close: Callable[[], None]
    busy: int = 0  # commands that go over it, or ask to
    proven: bool = False  # a command has gone over it
    refused_at: float | None = None

    @property
    def has_room(self) -> bool:
        # How many it takes is the host's secret, and one that we have left may still be ending there.
        return self.refused_at is None or time.monotonic() - self.refused_at > _REFUSED_S


class OpensshSession(Session):
    """One login, and further ones when the host takes no more commands on those that there are (MaxSessions)."""

    def __init__(self, name: str, start: Callable[[], tuple[Master, Callable[[], None]]]) -> None:
        """`start` logs in and tells how to log out. Blocks. Raises NotFitError."""
        self.name = name
        self._start = start
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._closed = False
        self._lanes = [_Lane(*start())]
        self._channels: list[OpensshChannel] = []

    def run(self, command: str) -> Channel:
        try:
            pipes = Pipes()
        except OSError as error:
            raise NotFitError(f"{self.name}: no pipe to a command can be made: {error.strerror}") from error
        try:
            lane, line = self._open(command, pipes)
        except BaseException:
            pipes.close()
            raise
        pipes.close_theirs()
        channel = OpensshChannel(pipes, line, lane.master, self.name, lambda: self._leave(lane))
        with self._lock:
            self._channels = [one for one in self._channels if not one.closed]
            self._channels.append(channel)
        return channel

    @property
    def alive(self) -> bool:
        with self._lock:
            return not self._closed and self._lanes[0].master.alive

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            channels, self._channels = self._channels, []
        for channel in channels:
            channel.close()
        for lane in self._lanes:
            lane.close()

    def _open(self, command: str, pipes: Pipes) -> tuple[_Lane, Line]:
        while True:
            lane = self._enter()
            line: Line | None = None
            try:
                line = lane.master.line()
                line.open(command, (pipes.theirs_in, pipes.theirs_out, pipes.errors.fileno()), _OPEN_S)
            except (RefusedError, OSError) as error:
                if line is not None:
                    line.close()
                self._leave(lane)
                if not isinstance(error, RefusedError):
                    why = str(error) if lane.master.alive else lane.master.last_words()
                    raise NotFitError(f"{self.name}: the connection is gone: {why}") from error
                self._refused(lane, error)
            else:
                lane.proven = True
                return lane, line

    def _refused(self, lane: _Lane, error: RefusedError) -> None:
        if not lane.proven and not lane.busy:
            raise NotFitError(
                f"{self.name}: the host takes no commands: {error}",
                hint="check MaxSessions in its sshd_config",
            ) from error
        lane.refused_at = time.monotonic()

    def _enter(self) -> _Lane:
        """A place on a login; a new login if those that there are have none."""
        lane = self._room()
        while lane is None:
            with self._starting:  # whoever waited here finds the other's new one
                lane = self._room()
                if lane is None:
                    fresh = _Lane(*self._start())
                    with self._lock:
                        if not self._closed:
                            self._lanes.append(fresh)
                    if fresh not in self._lanes:
                        fresh.close()
                    lane = self._room()
        return lane

    def _room(self) -> _Lane | None:
        with self._lock:
            if self._closed or not self._lanes[0].master.alive:
                why = "it was closed" if self._closed else self._lanes[0].master.last_words()
                raise NotFitError(f"{self.name}: the connection is gone: {why}")
            for lane in self._lanes:
                if lane.has_room and lane.master.alive:
                    lane.busy += 1
                    return lane
            return None

    def _leave(self, lane: _Lane) -> None:
        with self._lock:
            lane.busy -= 1
            lane.refused_at = None


def connect(
    host: HostSpec,
    *,
    connect_s: float,
    asker: Asker | None = None,
    say: Callable[[str], None] = lambda _: None,
    config: Path | None = None,
    alive_s: float = 60.0,
) -> OpensshSession:
    """Log in on a host; blocks for about `connect_s`, and for as long as a person takes to answer.

    `asker` puts ssh's questions, one for all hosts so that a passphrase is asked for once; without it nothing is asked.
    `say` is told of new host keys. `config` stands for ~/.ssh/config. Raises NotFitError.
    """
    if host.ssh is None:
        raise NotFitError(f"{host.name} is local: it has no address")
    login = login_of(host.name, host.ssh, config)
    how = How(host.host_keys, connect_s, alive_s, asker, say)

    def start() -> tuple[Master, Callable[[], None]]:
        try:
            return reach(login, how)
        except NotFitError as error:
            if error.message.startswith(f"{host.name}:"):
                raise
            raise NotFitError(f"{host.name}: {error.message}", hint=error.hint) from error

    return OpensshSession(host.name, start)
