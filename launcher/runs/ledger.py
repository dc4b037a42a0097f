"""Time written down once: from a beginning to an end, each millisecond under one heading. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Use(Enum):
    """What a run's time was spent on. Every moment belongs to one of these, and to one only."""

    TRAINING = "training", "steps that count, and validation"
    CHECKPOINT = "checkpoint", "training stood still to save; at an end, what came after the last step"
    START = "start", "until a generation's first step was done: hosts, imports, tracing"
    RESTART = "restart", "from the end of a failed generation to the start of the next one"
    DETECTION = "detection", "from the death, as far as it is known, until it was noticed"
    RESCUE = "rescue", "from the first thing noticed until the generation had ended"
    WAITING = "waiting", "a pause, a host that was gone, no coordinator, a run that had ended until it was resumed"
    LOST = "lost work", "steps that had to be done again"

    prose: str

    def __new__(cls, value: str, prose: str) -> Use:
        member = object.__new__(cls)
        member._value_ = value
        member.prose = prose
        return member

    def __str__(self) -> str:
        return str(self.value)


_MOST_MS = 1e14  # some thousands of years: what a broken clock says stays a number

Spent = Mapping[Use, int]  # in milliseconds


@dataclass(frozen=True)
class Life:
    """A generation in the book. Times are seconds since 1970 by the coordinator's clock, as far as that is known."""

    generation: int
    began_at: float | None
    resumes: str = ""  # the checkpoint that it began from, or empty
    workers: int = 0
    hosts: tuple[str, ...] = ()
    from_step: int | None = None  # None where steps are not known: a program
    first_step: int | None = None  # the first one that was done
    reached: int | None = None  # the last one
    done_again: int = 0  # so many of its steps had to be done again
    first_step_at: float | None = None
    ended_at: float | None = None
    reason: str = ""  # why it ended, when somebody said so
    spent: Spent = field(default_factory=dict)


@dataclass(frozen=True)
class Booking:
    """What every millisecond of a run was spent on: `spent` adds up to `total_ms` exactly."""

    total_ms: int
    spent: Spent
    lives: tuple[Life, ...] = ()
    until_first_step_ms: int | None = None  # None: no step was done yet
    ended_ms: int = 0  # after the first step, the run had ended until somebody resumed it; part of WAITING

    @property
    def goodput(self) -> float | None:
        """Training's share of the time since the first step, in which the run had not ended. None without any."""
        if self.until_first_step_ms is None:
            return None
        counted = self.total_ms - self.until_first_step_ms - self.ended_ms
        return self.spent.get(Use.TRAINING, 0) / counted if counted > 0 else None

    def shares(self) -> dict[Use, float]:
        """Per cent to one place, adding up to 100.0: what rounding leaves over goes to those that it cut most."""
        if self.total_ms <= 0:
            return dict.fromkeys(Use, 0.0)
        cut = {use: divmod(1000 * self.spent.get(use, 0), self.total_ms) for use in Use}
        left = 1000 - sum(whole for whole, _ in cut.values())
        raised = sorted(Use, key=lambda use: -cut[use][1])[:left]
        return {use: (whole + (use in raised)) / 10 for use, (whole, _) in cut.items()}


class Ledger:
    """Time is booked from where the last entry ended; nothing is booked twice, nothing left out, nothing negative."""

    def __init__(self, begins_at: float, ends_at: float) -> None:
        self._begins_at = begins_at
        self.total_ms = round(max(0.0, min((ends_at - begins_at) * 1000, _MOST_MS)))
        self.at_ms = 0
        self._spent: dict[int, dict[Use, int]] = {}

    def until(self, at: float, use: Use, generation: int) -> int:
        """Book what has passed until `at`, in seconds since 1970; nothing if that lies behind. Returns how much."""
        passed = max(0.0, min((at - self._begins_at) * 1000, self.total_ms))
        amount = max(0, round(passed) - self.at_ms)
        self.at_ms += amount
        self._add(generation, use, amount)
        return amount

    def has_passed(self, at: float) -> bool:
        """Whether the time until then is booked."""
        return (at - self._begins_at) * 1000 <= self.at_ms

    def move(self, amount: int, use: Use, to: Use, generation: int) -> int:
        """Book some of what a generation has under one heading under another. Returns how much: what there was."""
        amount = max(0, min(amount, self.of(generation).get(use, 0)))
        self._add(generation, use, -amount)
        self._add(generation, to, amount)
        return amount

    def of(self, generation: int) -> dict[Use, int]:
        return {use: amount for use, amount in self._spent.get(generation, {}).items() if amount}

    def spent(self) -> dict[Use, int]:
        """Of every heading, in their order."""
        return {use: sum(entries.get(use, 0) for entries in self._spent.values()) for use in Use}

    def _add(self, generation: int, use: Use, amount: int) -> None:
        entries = self._spent.setdefault(generation, {})
        entries[use] = entries.get(use, 0) + amount
