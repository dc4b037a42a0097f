"""Starts ranks of the built-in trainer as a pasted line of the plan does: a plain process with an environment."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.contract import names, records

WORKER = Path(__file__).parents[2] / "worker"
DEADLINE_S = 90.0
_PORTS = itertools.count(21000 + os.getpid() * 37 % 9000)


def free_ports(count: int) -> list[int]:
    """Ports that are free now, below the range from which the kernel takes its own, and each one only once."""
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
    return found


@dataclass
class Rank:
    """One rank's process and its files."""

    process: subprocess.Popen[bytes]
    folder: Path
    control: int | None

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def told(self, type_: str | None = None) -> list[records.Record]:
        try:
            data = (self.folder / "progress.jsonl").read_bytes()
        except FileNotFoundError:
            return []
        return [record for record in records.parse(data)[0] if type_ in (None, record["type"])]

    def wait_for(self, type_: str, **fields: Any) -> records.Record:
        """The first record of a type with these fields; fails when the process ends without it."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            for record in self.told(type_):
                if fields.items() <= record.items():
                    return record
            assert not ended, f"ended with {self.process.returncode} and no {type_}:\n{self.log}"
            time.sleep(0.02)
        raise AssertionError(f"no {type_} in {DEADLINE_S} s:\n{self.log}")

    def send(self, message: Mapping[str, Any]) -> None:
        assert self.control is not None
        os.write(self.control, json.dumps(message).encode() + b"\n")

    def wait(self) -> int:
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {DEADLINE_S} s:\n{self.log}") from None


@dataclass
class Cluster:
    """The ranks of one generation, in a folder of their own."""

    ranks: list[Rank] = field(default_factory=list)

    def __getitem__(self, rank: int) -> Rank:
        return self.ranks[rank]

    def wait(self) -> list[int]:
        return [rank.wait() for rank in self.ranks]


@contextlib.contextmanager
def cluster(
    folder: Path,
    job: Mapping[str, Any],
    *,
    workers: int = 2,
    generation: int = 1,
    resume: str | Path = "",
    control: bool = True,
    env: Mapping[str, str] | None = None,
    of_rank: Mapping[int, Mapping[str, str]] | None = None,
    line: tuple[str, ...] = (str(WORKER), "train"),
) -> Iterator[Cluster]:
    """Start `workers` ranks; whatever is alive at the end is killed. `of_rank` is set on top for single ranks."""
    ports = free_ports(workers)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    made = Cluster()
    try:
        for rank in range(workers):
            place = folder / f"g{generation}" / f"rank{rank}"
            place.mkdir(parents=True)
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            variables = {
                **os.environ,
                names.TF_CONFIG: json.dumps(config),
                names.TRAIN: json.dumps({**job, "workers": workers}),
                names.RANK: str(rank),
                names.WORLD_SIZE: str(workers),
                names.GENERATION: str(generation),
                names.CHECKPOINT_DIR: str(place / "checkpoints"),
                names.OUTPUT_DIR: str(place / "output"),
                names.PROGRESS_FILE: str(place / "progress.jsonl"),
                names.RESUME_DIR: str(resume),
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **(env or {}),
                **(of_rank or {}).get(rank, {}),
            }
            made.ranks.append(_start(place, variables, control, line))
        yield made
    finally:
        for one in made.ranks:
            one.process.kill()
            one.process.wait()
            if one.control is not None:
                os.close(one.control)


def _start(place: Path, variables: dict[str, str], control: bool, line: tuple[str, ...]) -> Rank:
    read, write = os.pipe() if control else (None, None)
    if read is not None:
        variables[names.CONTROL_FD] = str(read)
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *line],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=() if read is None else (read,),
            start_new_session=True,
        )
    if read is not None:
        os.close(read)
    return Rank(process, place, write)
