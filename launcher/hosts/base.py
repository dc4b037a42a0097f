"""The interface to a machine: a byte stream to the agent of a run on it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.errors import NotFitError
from worker.contract import wire


@dataclass(frozen=True)
class RunOnHost:
    """Which run's agent is meant: its folder on the host, our staged package there, and how long a lease is.

    `warm`: which agents that were kept after another run may take this one; empty: none.
    """

    run: str
    host: str
    folder: str
    code: str
    lease_s: float
    warm: str = ""


class Stream(ABC):
    """Messages to and from a relay. Not thread-safe; every call returns at once."""

    def __init__(self) -> None:
        self._decoder = wire.Decoder(magic=True)
        self._out = bytearray()

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that turns readable when `receive` has something to do."""

    @abstractmethod
    def _read(self) -> bytes | None:
        """What has come; None if nothing has; empty at the end of the stream."""

    @abstractmethod
    def _write(self, data: bytes) -> int:
        """Take what can be taken without waiting; returns how many bytes. Raises OSError when the stream is gone."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the stream; the agent lives on. May be called twice."""

    @abstractmethod
    def complaint(self) -> str:
        """What the far side printed on standard error so far, for an error message."""

    @property
    def wants_write(self) -> bool:
        return bool(self._out)

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a message, and send as much as goes without waiting. Raises OSError when the stream is gone."""
        self._out += wire.encode(dict(message))
        self.flush()

    def flush(self) -> None:
        """Send what is queued as far as that goes without waiting."""
        while self._out:
            sent = self._write(bytes(self._out[: 1 << 16]))
            if not sent:
                return
            del self._out[:sent]

    def receive(self) -> tuple[list[wire.Message], bool]:
        """(the messages that have come, whether the stream is still open). Raises wire.WireError on nonsense."""
        messages: list[wire.Message] = []
        while True:
            data = self._read()
            if data is None:
                return messages, True
            if not data:
                return messages, False
            messages += self._decoder.feed(data)


class Host(ABC):
    """A machine of the spec."""

    name: str
    remote = False  # its link may break and come back, and its files are not here

    def drop(self) -> None:  # noqa: B027 - most have none
        """Forget a connection that has fallen silent, so that the next stream gets a fresh one."""

    def open(self, target: RunOnHost, *, start: bool) -> Stream:
        """A fresh stream to the run's agent; with `start`, one is started if there is none.

        Returns before the agent has answered: its hello, or `absent`, is the first message. Raises NotFitError.
        """
        stream = self._open(target)
        reach = {
            "type": wire.REACH,
            "folder": target.folder,
            "host": target.host,
            "run": target.run,
            "start": start,
            "lease_s": target.lease_s,
            **({"warm": target.warm} if target.warm else {}),
        }
        try:
            stream.send(reach)
        except OSError as error:
            why = stream.complaint() or os.strerror(error.errno or 0)
            stream.close()
            raise NotFitError(f"the relay on {self.name} ended at once: {why}") from error
        return stream

    @abstractmethod
    def _open(self, target: RunOnHost) -> Stream:
        """Start the relay of `target` and give the stream to it."""
