"""Hosts that failed repeatedly are set aside for a while, which doubles. Pure, and without chance.

A host's first failure within `per` is answered by using it again at once; the second sets it aside for FIRST_S, each
further one for twice as long, and never for longer than `per`. Failures older than `per` are forgotten. Whoever is set
aside is used nevertheless where the run could not go on without it (`roster`).
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST_S = 60.0
ALLOWED = 1  # failures within `per` for which nobody is set aside


class Aside:
    """Told of each failure that came of a host; `now` is a time of a steady clock."""

    def __init__(self, per: float) -> None:
        self._per = per
        self._failures: dict[str, list[float]] = {}
        self._until: dict[str, float] = {}

    def failed(self, host: str, now: float, *, at_once: bool = False) -> float:
        """A generation failed because of this host; for how many seconds it is set aside, 0 for not at all.

        `at_once`: its first failure counts as its second, since using it again could only fail again.
        """
        recent = [at for at in self._failures.get(host, []) if now - at < self._per]
        if at_once and not recent:
            recent = [now]
        self._failures[host] = [*recent, now]
        beyond = len(self._failures[host]) - ALLOWED
        seconds = 0.0 if beyond < 1 else min(FIRST_S * 2.0 ** min(beyond - 1, 16), self._per)
        if seconds:
            self._until[host] = max(self._until.get(host, now), now + seconds)
        return seconds

    def recall(self, failures: Sequence[tuple[float, str]]) -> None:
        """What an earlier coordinator was told: (a time of the same clock, host), in turn."""
        for at, host in failures:
            if host:
                self.failed(host, at)

    def now(self, now: float) -> frozenset[str]:
        """The hosts that are set aside at this time."""
        return frozenset(host for host, until in self._until.items() if now < until)

    def back_at(self, now: float) -> float:
        """When the next of them may be used again; infinity if none is set aside."""
        return min((until for until in self._until.values() if until > now), default=float("inf"))
