"""A tiny history as its files would be, for tests of the checker: two hosts, a rank killed, a restart, the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.checker.evidence import Evidence, Reference

Record = dict[str, Any]
FINGERPRINT = {"threads": 1}
STEPS, EPOCHS = 20, 4  # of five steps each


def bits_of(step: int) -> bytes:
    return b"bits of step %d" % step


def told_of(epoch: int) -> Record:
    return {"epoch": epoch, "step": 5 * epoch, "loss": 1 / epoch}


class Recorded:
    """Rank 0 on a, rank 1 on b. Life 1 goes from 0 to 7, where rank 1 is killed; life 2 from 7 to 20."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home" / "chaos-1-1"
        self.rooms = {host: folder / host / "chaos-1-1" for host in ("a", "b")}
        self.witness = folder / "witness"
        self.witness.mkdir()
        self.strikes: list[Record] = [
            {"kind": "KILL_WORKER", "host": 0, "rank": 1, "t": 20.0, "undone": 20.1, "generation": 1, "step": 7}
        ]
        self.more: Record = {}
        self._run()
        for rank, host in enumerate(self.rooms):
            self._host(host, rank)
        self.bring_home()

    def evidence(self) -> Evidence:
        given: Record = {
            "codes": (0,),
            "epochs": EPOCHS,
            "interruptions": (),
            "stuck": "",
            "left": (),
            "reference": Reference(
                {step: hashlib.sha256(bits_of(step)).hexdigest() for step in range(1, STEPS + 1)},
                {epoch: told_of(epoch) for epoch in range(1, EPOCHS + 1)},
                FINGERPRINT,
            ),
        }
        return Evidence(self.home, self.rooms, self.witness, self.strikes, **{**given, **self.more})

    def change(self, path: Path, change: Callable[[list[Record]], None], *, everywhere: bool = True) -> None:
        """Change a file of records; on a host, at home as well."""
        records = [json.loads(line) for line in path.read_text().splitlines()]
        change(records)
        if records and "seq" in records[0]:
            for place, record in enumerate(records):
                record["seq"] = place + 1
        _write(path, records)
        if everywhere:
            self.bring_home()

    def journal(self, host: str = "") -> Path:
        return (self.rooms[host] if host else self.home) / "events.jsonl"

    def checkpoint(self, host: str, name: str, *, at_home: bool = False) -> Path:
        return (self.home / "hosts" / host if at_home else self.rooms[host]) / "checkpoints" / name

    def save(self, folder: Path, generation: int, step: int, *, bits: bytes = b"", epochs: int = -1) -> None:
        """A checkpoint, whole by its own manifest."""
        place = folder / "checkpoints" / f"g{generation}-s{step}"
        place.mkdir(parents=True, exist_ok=True)
        count = step // 5 if epochs < 0 else epochs
        state = {"history": [told_of(n + 1) for n in range(count)], "fingerprint": FINGERPRINT}
        files = {"arrays.npz": bits or bits_of(step), "state.json": json.dumps(state).encode()}
        for name, data in files.items():
            (place / name).write_bytes(data)
        about = {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()}
        manifest = {"files": about, "step": step, "epoch": 1 + step // 5, "generation": generation}
        (place / "manifest.json").write_text(json.dumps(manifest))

    def bring_home(self) -> None:
        """Mirror the hosts' logs and output."""
        for host, room in self.rooms.items():
            for path in room.rglob("*"):
                if path.is_file() and "checkpoints" not in path.parts:
                    here = self.home / "hosts" / host / path.relative_to(room)
                    here.parent.mkdir(parents=True, exist_ok=True)
                    here.write_bytes(path.read_bytes())

    def _run(self) -> None:
        ranks = [{"rank": 0, "host": "a"}, {"rank": 1, "host": "b"}]
        records: list[Record] = [
            {"t": 9.0, "type": "run_created"},
            {"t": 9.1, "type": "coordinator_started", "term": 1},
            {"t": 10.0, "type": "generation_started", "generation": 1, "ranks": ranks, "resumes": ""},
            {"t": 21.0, "type": "restart", "generation": 1, "rank": 1},
            {"t": 22.0, "type": "coordinator_started", "term": 2},
            {"t": 23.0, "type": "generation_started", "generation": 2, "ranks": ranks, "resumes": "g1-s7"},
            {"t": 40.0, "type": "run_ended", "state": "trained", "exit_code": 0, "message": "every rank finished"},
        ]
        _write(self.home / "events.jsonl", _numbered(records))

    def _host(self, host: str, rank: int) -> None:
        room = self.rooms[host]
        records: list[Record] = [{"t": 9.5, "type": "agent_started"}]
        lives = [(1, 1, 10.0, 20.0 + rank * 0.1, 0, 7), (2, 2, 23.0, 39.0, 7, 20)]
        for generation, term, begun, ended, first, last in lives:
            about = {"generation": generation, "rank": rank}
            records.append({"t": begun - 0.5, "type": "commanded_by", "term": term})
            records.append({"t": begun + 0.1, "type": "rank_started", **about})
            for epoch in range(first // 5 + 1, last // 5 + 1):
                if rank == 0:
                    records.append({"t": ended - 1, "type": "rank_epoch", **about, **told_of(epoch)})
            records.append(
                {"t": ended - 0.2, "type": "checkpoint", **about, "name": f"g{generation}-s{last}", "step": last}
            )
            records.append({"t": ended, "type": "rank_ended", **about})
            steps = [{"t": begun, "type": "step", "step": step} for step in range(first + 1, last + 1)]
            _write(room / f"g{generation}" / f"rank{rank}.progress.jsonl", steps)
            lines = "".join(f"#{generation}.{rank}.{n}#\n" for n in range(1, 9))
            (room / f"g{generation}" / f"rank{rank}.log").write_text(f"hello\n{lines}")
            (self.witness / f"g{generation}-rank{rank}.count").write_text("8".rjust(12))
            self.save(room, generation, last)
            if rank == 0:
                self.save(self.home / "hosts" / host, generation, last)
        (room / "output").mkdir()
        (room / "output" / "model.keras").write_bytes(b"model" * rank)
        _write(room / "events.jsonl", _numbered(records))


def _numbered(records: list[Record]) -> list[Record]:
    return [{"seq": place + 1, **record} for place, record in enumerate(records)]


def _write(path: Path, records: list[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
