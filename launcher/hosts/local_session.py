"""This machine as a session: commands are processes of its shell, without SSH."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.errors import NotFitError
from launcher.hosts.session import Channel, Session


class LocalChannel(Channel):
    """A process of this machine and its three streams."""

    def __init__(self, process: subprocess.Popen[bytes], errors: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._errors = errors
        self._stdin, self._stdout = process.stdin, process.stdout
        for pipe in (self._stdin, self._stdout):
            os.set_blocking(pipe.fileno(), False)

    def fileno(self) -> int:
        return self._stdout.fileno()

    def read(self, most: int = 1 << 18) -> bytes | None:
        try:
            return os.read(self._stdout.fileno(), most)
        except BlockingIOError:
            return None

    def write(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._stdin.fileno(), data)
        except BlockingIOError:
            return 0

    def wait_writable(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._stdin.fileno(), select.POLLOUT)
        return bool(poll.poll(max(0, int(timeout_s * 1000))))

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()

    def errors(self) -> str:
        try:
            size = os.fstat(self._errors).st_size
            return os.pread(self._errors, 4000, max(0, size - 4000)).decode("utf-8", "replace")
        except OSError:
            return ""

    def exit_status(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1
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
        self._channels: list[LocalChannel] = []

    def run(self, command: str) -> Channel:
        errors, path = tempfile.mkstemp(prefix="launcher-")
        Path(path).unlink()
        try:
            process = subprocess.Popen(
                [*self._shell, command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd="/",
                env=self._environ,
                bufsize=0,
            )
        except OSError as error:
            os.close(errors)
            raise NotFitError(f"no shell can be started on {self.name}: {error}") from error
        channel = LocalChannel(process, errors)
        self._channels.append(channel)
        return channel

    @property
    def alive(self) -> bool:
        return True

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        self._channels.clear()
