"""This machine: the stream is the standard input and output of a relay process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from typing import IO

from launcher.errors import NotFitError
from launcher.hosts.base import Host, RunOnHost, Stream


class LocalStream(Stream):
    """A relay process of this machine. Its end does not harm the agent."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        super().__init__()
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._errors = errors
        self._stdin, self._stdout = process.stdin, process.stdout
        for pipe in (self._stdin, self._stdout):
            os.set_blocking(pipe.fileno(), False)

    def fileno(self) -> int:
        return self._stdout.fileno()

    def _read(self) -> bytes | None:
        try:
            return os.read(self._stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return None

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._stdin.fileno(), data)
        except BlockingIOError:
            return 0

    def complaint(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(0)
            return self._errors.read(4000).decode("utf-8", "replace").strip()
        return ""

    def close(self) -> None:
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        with contextlib.suppress(OSError):
            self._errors.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LocalHost(Host):
    """The machine that the coordinator runs on."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _open(self, target: RunOnHost) -> Stream:
        # -I and -S: the agent needs the standard library alone, and starts in half the time without `site`.
        argv = [sys.executable, "-I", "-S", target.code, "relay"]
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the stream
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd="/", bufsize=0
            )
        except OSError as error:
            errors.close()
            raise NotFitError(
                f"the agent of {self.name} could not be started: {error}",
                hint="check that the Python of the coordinator and the run folder are still there",
            ) from error
        return LocalStream(process, errors)
