"""Virtual time: a heap of what will happen, one seeded random, and a trace of what did."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

BEGIN_S = 1000.0
TRACE = 4000  # lines that are kept


class World:
    """`awake` seconds go from event to event. `now` also counts the quiet hours that were skipped in between, in which
    nothing happened but training: boot and wall clocks show it, as they do after a machine has slept."""

    def __init__(self, seed: object) -> None:
        self.random = random.Random(str(seed))
        self.awake = BEGIN_S
        self.skipped = 0.0
        self.happened = 0
        self.lines: deque[str] = deque(maxlen=TRACE)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    @property
    def now(self) -> float:
        return self.awake + self.skipped

    def steady(self) -> float:
        """The clock of a link, which hears nothing of skipped hours."""
        return self.awake

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.awake + seconds, self._number, do))

    def between(self, least: float, most: float) -> float:
        return self.random.uniform(least, most)

    def chance(self, likely: float) -> bool:
        return self.random.random() < likely

    def tell(self, text: str) -> None:
        self.lines.append(f"{self.now - BEGIN_S:12.3f}  {text}")

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let so much awake time pass, or less if `until` becomes true; whether it did."""
        end = self.awake + seconds
        while not until():
            if not self._heap or self._heap[0][0] > end:
                self.awake = end
                return until()
            self.awake, _, do = heapq.heappop(self._heap)
            self.happened += 1
            do()
        return True
