"""Whether a failure is answered with another generation, and after which pause. Pure.

A budget per window, so that a run that fails once a day goes on for a month and one that fails at once stops soon.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from launcher.spec.model import RestartSpec

MOST_PAUSE_S = 60.0
_WITHOUT_PROGRESS = 2  # what a generation that made no step counts


@dataclass(frozen=True)
class Signature:
    """What an error is known by when it comes again: its text, and the step that the run had come to."""

    text: str
    step: int | None


@dataclass(frozen=True)
class Failure:
    """How a generation ended. `progressed`: it left the run further than it had found it.

    `signature` is None for what does not come of the program: a signal, a lost peer, a host that is gone.
    """

    message: str
    progressed: bool
    signature: Signature | None = None
    repeats: bool = False  # it is in the nature of the failure that it comes again


@dataclass(frozen=True)
class Again:
    """Begin another generation, so many seconds from now."""

    pause_s: float


@dataclass(frozen=True)
class Enough:
    """Begin no other one; both texts are for people. `faulty`: it would fail in the same way again."""

    why: str
    hint: str
    faulty: bool = False


class Policy:
    """Told of each failure in turn; remembers those of the last `per` seconds."""

    def __init__(self, spec: RestartSpec, jitter: Callable[[], float] = lambda: random.uniform(0.75, 1.25)) -> None:
        self.spec = spec
        self._jitter = jitter
        self._failures: list[tuple[float, int]] = []  # when, and what it counts
        self._last: Failure | None = None
        self._fruitless = 0  # generations without progress, one after the other

    def after(self, failure: Failure, now: float) -> Again | Enough:
        """What to do about a failure at a time of a steady clock."""
        last, self._last = self._last, failure
        self._fruitless = 0 if failure.progressed else self._fruitless + 1
        self._failures = [(at, count) for at, count in self._failures if now - at < self.spec.per]
        self._failures.append((now, 1 if failure.progressed else _WITHOUT_PROGRESS))
        if failure.repeats or self.spec.max == 0:
            return Enough("", "")
        if last is not None and failure.signature is not None and last.signature == failure.signature:
            where = f" at step {failure.signature.step}" if failure.signature.step is not None else ""
            return Enough(
                f"the same error came twice{where}: it would come again",
                "mend the program or its data, then `launcher resume` goes on from the newest checkpoint",
                faulty=True,
            )
        if sum(count for _, count in self._failures) > self.spec.max:
            return Enough(
                self._used_up(), "see the causes above; `restart: {max: …, per: …}` sets how often it is tried"
            )
        return Again(self.pause_s)

    def recall(self, failures: Sequence[tuple[float, bool, str]]) -> None:
        """Failures that an earlier coordinator was told of: (a time of the same clock, whether it had progressed, the
        host that it came of)."""
        for at, progressed, _ in failures:
            self._failures.append((at, 1 if progressed else _WITHOUT_PROGRESS))
            self._fruitless = 0 if progressed else self._fruitless + 1

    @property
    def told(self) -> bool:
        """Whether there was a failure at all."""
        return self._last is not None

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try: nothing after a generation that made progress."""
        if not self._fruitless:
            return 0.0
        return float(min(self.spec.backoff * 2 ** min(self._fruitless - 1, 16), MOST_PAUSE_S) * self._jitter())

    def _used_up(self) -> str:
        failed = len(self._failures)
        times = "once" if failed == 1 else "twice" if failed == 2 else f"{failed} times"
        fruitless = sum(count == _WITHOUT_PROGRESS for _, count in self._failures)
        without = f", {fruitless} of them without progress, which counts twice" if fruitless else ""
        return f"it failed {times} within {_span(self.spec.per)}{without}; restart.max is {self.spec.max}"


def _span(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
