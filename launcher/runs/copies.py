"""Copies of one checkpoint, written by ranks on their own, compared by the hashes of their arrays. Pure.

Ranks hold the same numbers after every step, or something is wrong that nobody has noticed: a bit that flipped, a disk
that wrote something else. Which copy is the right one cannot be told from two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.runs.fields import integer, text
from worker.contract import records
from worker.contract.layout import parse_checkpoint_name
from worker.contract.records import Record

KINDS = frozenset({records.CHECKPOINT, records.CHECKPOINT_REFUSED})
HINT = "resume from the checkpoint before; if it happens again, suspect memory, disk or GPU of one of the two"
_MOST = 1000  # names of which a copy is remembered: a later one is compared long before


@dataclass(frozen=True)
class Copy:
    """What one rank saved under a checkpoint's name: `arrays` is the hash."""

    rank: int
    host: str
    arrays: str

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}"


@dataclass(frozen=True)
class Divergence:
    """Two copies of a checkpoint that are not the same, in the order of their ranks."""

    name: str
    generation: int
    step: int
    copies: tuple[Copy, Copy]

    @property
    def message(self) -> str:
        first, second = self.copies
        return (
            f"{first} and {second} do not hold the same numbers at step {self.step}: their copies of {self.name} differ"
        )

    def as_record(self) -> dict[str, Any]:
        """The fields of a COPIES_DIFFER record."""
        copies = [{"rank": copy.rank, "host": copy.host, "arrays": copy.arrays} for copy in self.copies]
        return {"generation": self.generation, "step": self.step, "name": self.name, "copies": copies}

    def as_cause(self) -> dict[str, Any]:
        """The fields of a CAUSE record. It names the copy that is not the chief's, as nobody knows who is wrong."""
        first, second = self.copies
        return {
            "host": second.host,
            "generation": self.generation,
            "how": f"the copy of {self.name} by rank {second.rank} is not that of {first}",
            "message": self.message,
            "hint": HINT,
        }

    def concerns(self, name: str) -> bool:
        """Whether a checkpoint is in doubt for it: it, and what its generation saved after it."""
        parsed = parse_checkpoint_name(name)
        return parsed is not None and parsed[0] == self.generation and parsed[1] >= self.step


class Copies:
    """Takes the records of agents as they come, and finds the copy that differs."""

    def __init__(self) -> None:
        self._first: dict[str, Copy] = {}

    def add(self, host: str, record: Record) -> Divergence | None:
        """The divergence that a record of a host's journal brings to light. Records of other kinds bring none."""
        if record.get("type") not in KINDS:
            return None
        name, arrays = text(record, "name"), text(record, "arrays")
        parsed, rank = parse_checkpoint_name(name), integer(record, "rank")
        if parsed is None or rank is None or not arrays:
            return None
        copy = Copy(rank, host, arrays)
        first = self._first.setdefault(name, copy)
        if len(self._first) > _MOST:
            del self._first[next(iter(self._first))]
        if first.arrays == arrays:
            return None
        one, other = sorted((first, copy), key=lambda c: (c.rank, c.host))
        return Divergence(name, *parsed, (one, other))


def divergences(host_events: Mapping[str, Sequence[Record]]) -> tuple[Divergence, ...]:
    """The first divergence of each generation, told by the journals of all hosts."""
    copies = Copies()
    found: dict[int, Divergence] = {}
    events = [(host, record) for host, all_ in host_events.items() for record in all_ if record["type"] in KINDS]
    # By name: each host alone may have told of more checkpoints than are remembered.
    for host, record in sorted(events, key=lambda event: text(event[1], "name")):
        divergence = copies.add(host, record)
        if divergence is None:
            continue
        before = found.get(divergence.generation)
        if before is None or divergence.step < before.step:
            found[divergence.generation] = divergence
    return tuple(found[generation] for generation in sorted(found))
