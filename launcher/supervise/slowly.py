"""What many hosts say of their progress, told to one person."""

from __future__ import annotations

import time

from launcher.supervise.foreground import Front

_TOLD_EVERY_S = 3.0


class Slowly:
    """Passes on what hosts say of their progress, each host's at most every few seconds. For any thread."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._last: dict[str, float] = {}

    def say(self, host: str, text: str) -> None:
        now = time.monotonic()
        if now - self._last.get(host, 0.0) >= _TOLD_EVERY_S:
            self._last[host] = now
            self._front.say(f"{host}: {text}")
