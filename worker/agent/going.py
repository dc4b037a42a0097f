"""That this host has to go: why, and how long its agent stays without ranks, for what they saved to be brought home.
Pure; times are awake seconds."""

from __future__ import annotations

from typing import Optional

LINGER_S = 120.0  # as long as the most patient of those who announce an end give
ALONE_S = 3.0  # for a coordinator whose connection broke: what broke it may be the same signal, and it comes back
TERMED_CODE = 143  # 128 + SIGTERM: how a shell, or a program that handles the signal, tells of it


class Going:
    """Nothing at first. `begin` once it is known; the agent then saves, and leaves when told to, or when nobody is
    there to tell it, or at the deadline."""

    def __init__(self) -> None:
        self.why = ""
        self._hastened = False
        self._idle_since: Optional[float] = None

    @property
    def told(self) -> str:
        return f"this host has to go ({self.why})"

    def begin(self, why: str) -> None:
        self.why = self.why or why

    def hasten(self) -> None:
        """Asked again: what ranks save is not cut short, but nobody is waited for after that."""
        self._hastened = True

    def stays(self, commanded: bool, t: float) -> bool:
        """Whether an agent without ranks stays on for now. `commanded`: a coordinator is there to end it."""
        if self._idle_since is None:
            self._idle_since = t
        return not self._hastened and t < self._idle_since + (LINGER_S if commanded else ALONE_S)
