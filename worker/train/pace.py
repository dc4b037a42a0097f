"""How many steps the next chunk has. Pure: times come in, numbers go out."""

from __future__ import annotations

WORK_S = 0.5  # of work between two looks at the control word
GROWTH = 8  # the first steps are slow for reasons of their own, so their rate is not believed for long


class Pace:
    """Measured by the chief; the length that it finds holds for all."""

    def __init__(self) -> None:
        self._length = 1

    def next_length(self, until: int) -> int:
        """Steps of the next chunk, from 1 to `until` (the epoch's end, or a checkpoint's step)."""
        return max(1, min(self._length, until))

    def measured(self, steps: int, seconds: float) -> None:
        """Tell how long a chunk took."""
        if steps:
            fitting = int(0.9 * WORK_S * steps / max(seconds, 1e-9))
            self._length = max(1, min(fitting, GROWTH * self._length))
