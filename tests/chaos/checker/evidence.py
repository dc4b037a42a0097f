"""What a history has left: where its files lie, and what was seen of processes. Reads formats by itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

Record = dict[str, Any]
CHECKPOINT = re.compile(r"g(\d+)-s(\d+)")


@dataclass(frozen=True)
class Journal:
    """A file of JSON lines: its records, and how many of its lines are none."""

    records: tuple[Record, ...]
    torn: int

    def of(self, *types: str) -> list[Record]:
        return [record for record in self.records if record["type"] in types]


def read_journal(path: Path) -> Journal:
    """Every whole line. What is half at the end counts as torn, and so does what is no record."""
    data = path.read_bytes() if path.exists() else b""
    records, torn = [], 0
    for line in data.split(b"\n"):
        try:
            record = json.loads(line) if line else None
        except ValueError:
            torn += 1
            continue
        if isinstance(record, dict) and isinstance(record.get("type"), str):
            records.append(record)
        elif line:
            torn += 1
    return Journal(tuple(records), torn)


@dataclass(frozen=True)
class Reference:
    """What an untouched run computed: the hash of the arrays after each step, and what it told of each epoch."""

    arrays: Mapping[int, str]
    epochs: Mapping[int, Record]
    fingerprint: Record


@dataclass(frozen=True)
class Evidence:
    """All that a judgement may be made of."""

    home: Path  # the run's folder at home
    rooms: Mapping[str, Path]  # the run's folder on each host; for this machine the one at home
    witness: Path  # what the workers themselves wrote down, outside of the run
    strikes: Sequence[Record]  # as the nemesis wrote them down
    codes: Sequence[int | None]  # the exit codes of `up`, and of each `resume`
    epochs: int  # that were asked for
    interruptions: Sequence[str]  # states in which it may have ended before it was resumed
    stuck: str  # why the nemesis gave up on it
    left: Sequence[str]  # processes, sockets and locks that were there afterwards
    reference: Reference
    _digests: dict[Path, str] = field(default_factory=dict, compare=False)

    @cached_property
    def run(self) -> Journal:
        return read_journal(self.home / "events.jsonl")

    @cached_property
    def agents(self) -> dict[str, Journal]:
        return {host: read_journal(room / "events.jsonl") for host, room in self.rooms.items()}

    @cached_property
    def generations(self) -> dict[int, Record]:
        """The coordinator's word on each life of the cluster."""
        return {record["generation"]: record for record in self.run.of("generation_started")}

    def at_home(self, host: str) -> Path:
        return self.home / "hosts" / host

    def mirrored(self) -> list[str]:
        """The hosts whose files have to come home."""
        return [host for host, room in self.rooms.items() if room != self.at_home(host)]

    def sha256(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._digests[path]

    def struck(self, *kinds: str) -> list[Record]:
        return [strike for strike in self.strikes if strike["kind"] in kinds]


def checkpoints(folder: Path) -> dict[str, tuple[int, int]]:
    """(generation, step) of each checkpoint in a folder, by its name."""
    names = [path.name for path in (folder / "checkpoints").glob("g*")]
    found = {name: CHECKPOINT.fullmatch(name) for name in names}
    return {name: (int(match[1]), int(match[2])) for name, match in found.items() if match}


def parse_name(name: str) -> tuple[int, int]:
    """(generation, step) that a checkpoint's name says; (0, 0) for none."""
    match = CHECKPOINT.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else (0, 0)
