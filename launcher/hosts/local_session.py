"""This machine as a session: commands are processes of its shell, without SSH."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence

from launcher.errors import NotFitError
from launcher.hosts.pipe_channel import PipeChannel, Pipes
from launcher.hosts.session import Channel, Session


class LocalChannel(PipeChannel):
    """A process of this machine and its three streams."""

    def __init__(self, pipes: Pipes, process: subprocess.Popen[bytes]) -> None:
        super().__init__(pipes)
        self._process = process
        self.closed = False

    def exit_status(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        super().close()
        self.closed = True
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LocalSession(Session):
    """Never breaks. A command is given to `shell`, as sshd gives it to a login shell."""

    def __init__(
        self, name: str, *, shell: Sequence[str] = ("/bin/sh", "-c"), environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._shell = tuple(shell)
        self._environ = environ  # None: this process's own
        self._lock = threading.Lock()
        self._channels: list[LocalChannel] = []

    def run(self, command: str) -> Channel:
        try:
            pipes = Pipes()
        except OSError as error:
            raise NotFitError(f"{self.name}: no pipe to a command can be made: {error.strerror}") from error
        try:
            process = subprocess.Popen(
                [*self._shell, command],
                stdin=pipes.theirs_in,
                stdout=pipes.theirs_out,
                stderr=pipes.errors.fileno(),
                cwd="/",
                env=self._environ,
            )
        except OSError as error:
            pipes.close()
            raise NotFitError(f"no shell can be started on {self.name}: {error}") from error
        pipes.close_theirs()
        channel = LocalChannel(pipes, process)
        with self._lock:
            self._channels = [one for one in self._channels if not one.closed]
            self._channels.append(channel)
        return channel

    @property
    def alive(self) -> bool:
        return True

    def close(self) -> None:
        with self._lock:
            channels, self._channels = self._channels, []
        for channel in channels:
            channel.close()
