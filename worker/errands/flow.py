"""Bytes on their way to the coordinator: never more than a window of them that it has not acknowledged."""

from __future__ import annotations

import time
from typing import Any

from ..contract import pulling, wire
from .talk import Talk

_LEAST, _MOST = 1 << 16, 1 << 26


class EndedError(Exception):
    """The coordinator has left in the middle of something."""


class Flow:
    """What is sent over a talk, and how much of it is under way."""

    def __init__(self, talk: Talk, window: Any) -> None:
        self.talk = talk
        self._window = min(max(window, _LEAST), _MOST) if isinstance(window, int) else _LEAST
        self._flying = 0
        self.sent_at = time.monotonic()

    @property
    def full(self) -> bool:
        return self._flying >= self._window

    def send(self, message: wire.Message, raw: bytes = b"") -> None:
        """Raises OSError when nobody reads any more."""
        self.talk.send(message, raw)
        self._flying += len(raw)
        self.sent_at = time.monotonic()

    def acknowledge(self, message: wire.Message) -> None:
        count = message.get("bytes")
        if isinstance(count, int) and count > 0:
            self._flying = max(0, self._flying - count)

    def wait(self) -> None:
        """Block until there is room in the window. Raises EndedError."""
        while self.full:
            frame = self.talk.receive(pulling.SILENCE_S)
            if frame is None:
                raise EndedError
            if frame[0]["type"] == pulling.ACK:
                self.acknowledge(frame[0])

    def beat(self) -> None:
        """Say that we are there, if nothing has been said for a while."""
        if time.monotonic() - self.sent_at >= pulling.ALIVE_S:
            self.send({"type": pulling.ALIVE})
