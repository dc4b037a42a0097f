"""What the nemesis sees of a run: the journals and progress files, read in place as they grow."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.grounds import Scene

Record = dict[str, Any]


@dataclass
class Growing:
    """A file of JSON lines that is added to. Half a line is waited for; a line that is none is passed over."""

    path: Path
    records: list[Record] = field(default_factory=list)
    _offset: int = 0

    def look(self) -> int:
        """Read what is new; how many bytes that was."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return 0
        whole = data.rpartition(b"\n")[0] + b"\n" if b"\n" in data else b""
        self._offset += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and "type" in record:
                    self.records.append(record)
        return len(whole)


class Seen:
    """Everything that has been told so far, by the run's coordinator, its agents and its chief."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._run = Growing(scene.run / "events.jsonl")
        self._hosts = {name: Growing(scene.room(name) / "events.jsonl") for name in scene.names}
        self._progress: dict[int, Growing] = {}

    def look(self) -> int:
        """Read what is new; how much it was."""
        size = self._run.look() + sum(host.look() for host in self._hosts.values())
        generation = self.generation
        if generation and generation not in self._progress:
            chief = self._scene.names[0]
            path = self._scene.room(chief) / f"g{generation}" / "rank0.progress.jsonl"
            self._progress[generation] = Growing(path)
        return size + (self._progress[generation].look() if generation else 0)

    def of_run(self, type_: str) -> list[Record]:
        return [record for record in self._run.records if record["type"] == type_]

    def of_host(self, name: str, type_: str) -> list[Record]:
        return [record for record in self._hosts[name].records if record["type"] == type_]

    def of_hosts(self, type_: str) -> list[Record]:
        return [record for name in self._scene.names for record in self.of_host(name, type_)]

    @property
    def generation(self) -> int:
        """The newest; 0 before the first."""
        return max((record["generation"] for record in self.of_run("generation_started")), default=0)

    @property
    def step(self) -> int:
        """The newest step that any chief has told."""
        return max((step for grown in self._progress.values() for step in _steps(grown.records)), default=0)

    @property
    def begun(self) -> bool:
        """Whether a rank was started on every host."""
        return all(self.of_host(name, "rank_started") for name in self._scene.names)

    @property
    def ended(self) -> bool:
        """Whether the end of the run is written down, and no later coordinator has taken it back."""
        newest = ""
        for record in self._run.records:
            if record["type"] in ("run_ended", "coordinator_started"):
                newest = record["type"]
        return newest == "run_ended"

    def rank(self, rank: int) -> Record | None:
        """The newest start of a rank, if its end is not told."""
        for name in self._scene.names:
            found = None
            for record in self._hosts[name].records:
                if record.get("rank") != rank:
                    continue
                if record["type"] == "rank_started":
                    found = record
                elif record["type"] == "rank_ended":
                    found = None
            if found:
                return found
        return None

    def ranks_of(self, name: str) -> list[Record]:
        """The newest starts of the ranks of a host."""
        newest = {record["rank"]: record for record in self.of_host(name, "rank_started")}
        return list(newest.values())

    def newest(self, name: str, type_: str) -> Record | None:
        found = self.of_host(name, type_)
        return found[-1] if found else None


def _steps(records: list[Record]) -> Iterator[int]:
    return (record["step"] for record in records if record["type"] == "step")


def lives(pid: int, start_time: int) -> bool:
    """Whether this very process is there, and no zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and int(fields[19]) == start_time


def started(pid: int) -> int:
    """When a process was started, as /proc has it; -1 for one that is not there."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    return -1


def send(pid: int, start_time: int, number: int) -> bool:
    """Send a signal to this very process; whether it was there."""
    if not lives(pid, start_time):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
