"""Writes run folders as coordinator, agents and trainers would: for tests of whatever reads runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.runs.folder import RunFolder
from launcher.runs.model import Alive
from worker.contract import records
from worker.contract.layout import HostFolder, checkpoint_name

T0 = 1_767_323_045.0  # 2026-01-02 03:04:05 UTC


class FakeRun:
    """A run of `workers` ranks on hosts, told by records. Every call appends; the clock goes on by a second each."""

    def __init__(
        self,
        runs: Path,
        name: str = "fashion-cnn-20260102-030405",
        hosts: Sequence[str] = ("here",),
        workers: int = 2,
        epochs: int = 5,
        steps_per_epoch: int = 94,
        clocks: Mapping[str, float] | None = None,
    ) -> None:
        self.folder = RunFolder(runs / name)
        self.folder.path.mkdir(parents=True)
        self.hosts, self.workers, self.epochs = tuple(hosts), workers, epochs
        self.steps_per_epoch = steps_per_epoch
        self.clocks = dict(clocks or {})  # how far which hosts' clocks are ahead
        self.now = T0
        self.generation = 0
        self.agent_process = {"pid": 4500, "warden_pid": 4499, "start_time": 1}
        self._seq: dict[str, int] = {}

    # what everybody uses

    def host_of(self, rank: int) -> str:
        return self.hosts[rank % len(self.hosts)]

    def host(self, rank: int) -> HostFolder:
        return self.folder.host(self.host_of(rank))

    def tell(self, type_: str, **fields: Any) -> None:
        """A record in the coordinator's journal."""
        self._append(str(self.folder.journal), type_, numbered=True, **fields)

    def agent(self, host: str, type_: str, /, **fields: Any) -> None:
        """A record in an agent's journal."""
        self._append(self.folder.host(host).journal, type_, numbered=True, ahead=self.clocks.get(host, 0.0), **fields)

    def of_rank(self, rank: int, type_: str, **fields: Any) -> None:
        """A record about a rank in its agent's journal."""
        self.agent(self.host_of(rank), type_, generation=self.generation, rank=rank, **fields)

    def progress(self, rank: int, type_: str, **fields: Any) -> None:
        """A record in a rank's progress file."""
        ahead = self.clocks.get(self.host_of(rank), 0.0)
        self._append(self.host(rank).progress(self.generation, rank), type_, numbered=False, ahead=ahead, **fields)

    def log(self, rank: int, data: bytes) -> None:
        append(self.host(rank).log(self.generation, rank), data)

    # the story of a run

    def created(self, *, pid: int = 4000, term: int = 1) -> FakeRun:
        self.tell(
            records.RUN_CREATED,
            run=self.folder.name,
            spec="/somewhere/cluster.yaml",
            hosts=list(self.hosts),
            workers=self.workers,
            epochs=self.epochs,
            launched_at=self.now - 0.5,
        )
        self.coordinator(pid=pid, term=term)
        return self

    def coordinator(self, *, pid: int = 4000, term: int = 1) -> None:
        self.tell(records.COORDINATOR_STARTED, pid=pid, start_time=1, boot_id="", term=term, clocks=self.clocks)
        self.state("preparing")

    def state(self, state: str, reason: str = "") -> None:
        self.tell(records.RUN_STATE, state=state, reason=reason)

    def started(self, *, resumes: str = "", pid: int = 5000, start_time: int = 1) -> FakeRun:
        """A generation starts: agents, then ranks with pids from `pid` on."""
        self.generation += 1
        self.tell(
            records.GENERATION_STARTED,
            generation=self.generation,
            resumes=resumes,
            ranks=[
                {"rank": r, "host": self.host_of(r), "address": "127.0.0.1", "port": 20000 + r}
                for r in range(self.workers)
            ],
        )
        self.state("starting")
        for host in self.hosts:
            self.agent(host, records.AGENT_STARTED, host=host, run=self.folder.name, **self.agent_process)
        for rank in range(self.workers):
            self.of_rank(rank, records.RANK_STARTED, pid=pid + rank, start_time=start_time)
            self.log(rank, b"")
        return self

    def first_step(self, step: int = 1) -> FakeRun:
        for rank in range(self.workers):
            for name, seconds in (("import", 2.0), ("build", 0.5), ("first_step", 0.2)):
                self.progress(rank, records.PHASE, name=name, seconds=seconds)
            self.step(rank, step)
            self.of_rank(rank, records.RANK_FIRST_STEP, step=step)
        self.state("training")
        return self

    def step(self, rank: int, step: int, loss: float | None = 0.5) -> None:
        self.progress(
            rank,
            records.STEP,
            epoch=min(self.epochs, (step - 1) // self.steps_per_epoch + 1),
            step=step,
            steps=self.epochs * self.steps_per_epoch,
            loss=loss,
            images_per_second=3500.0,
        )

    def epoch(self, epoch: int, **changed: Any) -> FakeRun:
        fields = {
            "epoch": epoch,
            "step": epoch * self.steps_per_epoch,
            "loss": 1.0 / epoch,
            "accuracy": 1 - 0.5 / epoch,
            "val_loss": 1.1 / epoch,
            "val_accuracy": 1 - 0.6 / epoch,
            "seconds": 2.5,
            "images_per_second": 7000.0,
            **changed,
        }
        self.of_rank(0, records.RANK_EPOCH, **fields)
        return self

    def checkpoint(self, step: int, why: str = "every", rank: int = 0, **more: Any) -> str:
        name = checkpoint_name(self.generation, step)
        epoch = step // self.steps_per_epoch
        self.of_rank(rank, records.CHECKPOINT, name=name, step=step, epoch=epoch, why=why, **more)
        return name

    def ended(self, rank: int, state: str, **fields: Any) -> None:
        self.of_rank(rank, records.RANK_ENDED, state=state, **fields)

    def trained(self) -> FakeRun:
        """Every epoch, the result, and a proper end."""
        for epoch in range(1, self.epochs + 1):
            for rank in range(self.workers):
                self.step(rank, epoch * self.steps_per_epoch)
            self.epoch(epoch)
        self.finished()
        return self.told_trained()

    def finished(self) -> None:
        """The agents' side of a good end."""
        self.of_rank(0, records.RANK_RESULT, test_loss=0.31, test_accuracy=0.89, model="output/model.keras")
        for rank in range(self.workers):
            self.ended(rank, "finished", exit_code=0)

    def told_trained(self) -> FakeRun:
        """The coordinator's side of a good end."""
        self.tell(
            records.RUN_ENDED,
            state="trained",
            exit_code=0,
            message="",
            model=str(Path(self.host(0).output) / "model.keras"),
        )
        return self

    def _append(self, path: str, type_: str, *, numbered: bool, ahead: float = 0.0, **fields: Any) -> None:
        self.now += 1
        record = {"t": self.now + ahead, "type": type_, **fields}
        if numbered:
            self._seq[path] = record["seq"] = self._seq.get(path, 0) + 1
        append(path, records.dumps(record))


def append(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    with open(path, "ab") as file:
        file.write(data)


def nobody(folder: RunFolder, run_events: Any, host_events: Any) -> Alive:  # noqa: ARG001
    """A probe that finds no process alive: everything that was on this machine is gone."""
    return Alive(coordinator=None, agents=dict.fromkeys(host_events))


def everybody(folder: RunFolder, run_events: Any, host_events: Any) -> Alive:  # noqa: ARG001
    """A probe that finds coordinator and agents alive."""
    return Alive(coordinator=4000, agents=dict.fromkeys(host_events, 4500), process=lambda *_: True)


def only_agents(folder: RunFolder, run_events: Any, host_events: Any) -> Alive:  # noqa: ARG001
    """A probe of a run whose coordinator is gone and whose agents go on."""
    return Alive(coordinator=None, agents=dict.fromkeys(host_events, 4500), process=lambda *_: True)
