"""How fast steps are being done, and how long the rest will take: measured, over the last minute. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0
_FEWEST_S = 1.0


class Pace:
    """Takes (time, step) as they are seen. Validation between epochs counts as the time that it takes."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, at: float, step: int) -> None:
        """A step was seen to be done; one that lies before the last one (a new generation) starts over."""
        if self._seen and step < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or step > self._seen[-1][1]:
            self._seen.append((at, step))
        while len(self._seen) > 2 and at - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()

    def seconds_left(self, at: float, steps: int) -> float | None:
        """Seconds until step `steps`, or None before enough was seen."""
        if len(self._seen) < 2:
            return None
        (began, first), (_, last) = self._seen[0], self._seen[-1]
        passed = at - began
        if passed < _FEWEST_S:
            return None
        return max(0.0, (steps - last) * passed / (last - first))
