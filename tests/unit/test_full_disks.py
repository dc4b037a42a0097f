"""What is written while a disk is full, piece by piece: nothing lost that matters, and told once."""

from __future__ import annotations

import errno
import json
import os
import select
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import RunError
from launcher.runs.journal import Journal, read
from launcher.supervise.again import Planner
from launcher.supervise.core.events import MakePlan, PlanMade
from launcher.supervise.disks import Disks
from launcher.supervise.patient import PatientJournal
from worker.contract import records
from worker.train.progress import Progress


class Cramped(Journal):
    """A journal on a disk that is full as long as a reserve lies on it, or without end."""

    def __init__(self, path: Path, reserve: Path) -> None:
        super().__init__(path)
        self.reserve = reserve
        self.full = False
        self.hopeless = False

    def append(self, type_: str, **fields: Any) -> dict[str, Any]:
        if self.hopeless or (self.full and self.reserve.exists()):
            raise RunError("no space left")
        return super().append(type_, **fields)


def test_that_the_disk_is_full_is_read_in_the_journal_while_it_is(tmp_path: Path) -> None:
    reserve = tmp_path / ".reserve"
    journal = Cramped(tmp_path / "events.jsonl", reserve)
    patient = PatientJournal(journal, reserve)
    assert reserve.stat().st_size > 4096
    journal.full = True
    patient.append(records.REMARK, text="the disk is full")
    assert [record["text"] for record in read(tmp_path / "events.jsonl")] == ["the disk is full"]
    journal.full = False
    patient.append(records.REMARK, text="there is room")
    assert reserve.exists(), "for the next time"
    patient.close()
    assert not reserve.exists()


def test_what_finds_no_room_at_all_waits_in_order(tmp_path: Path) -> None:
    journal = Cramped(tmp_path / "events.jsonl", tmp_path / ".reserve")
    patient = PatientJournal(journal, tmp_path / ".reserve")
    journal.hopeless = True
    for number in range(3):
        patient.append(records.REMARK, text=str(number))
    assert not patient.retry()
    journal.hopeless = False
    assert patient.retry()
    assert [record["text"] for record in read(tmp_path / "events.jsonl")] == ["0", "1", "2"]


def test_a_hosts_full_disk_is_told_once_with_its_folder_and_is_the_hint_while_it_lasts() -> None:
    disks = Disks({"a": "/work/run/a"})
    full = {"type": records.DISK_FULL, "seq": 7, "message": "No space left on device: /work/run/a"}
    told = disks.heard_of("a", full)
    assert told.startswith("a: its disk is full (No space left on device")
    assert "df -h /work/run/a" in told
    assert disks.heard_of("a", full) == "", "a replay"
    assert "launcher resume" in disks.hint("a")
    assert disks.hint("b") == ""
    assert "room" in disks.heard_of("a", {"type": records.DISK_ROOM, "seq": 9})
    assert disks.hint("a") == ""
    assert disks.heard_of("a", {"type": records.CHECKPOINT, "seq": 10}) == ""


def test_a_trainers_records_wait_for_room_but_for_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.jsonl"
    progress = Progress(os.fspath(path))
    real, room = os.write, 50  # bytes

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if descriptor <= 2:
            return real(descriptor, data)
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = real(descriptor, bytes(data[:room]))
        room -= count
        return count

    monkeypatch.setattr(os, "write", write)
    progress.write(records.EPOCH, epoch=1, loss=0.5)  # cut in the middle
    progress.write(records.STEP, step=1)
    progress.write(records.SAVED, folder="g1-s1")
    progress.write(records.STEP, step=2)
    room = 1 << 20
    progress.write(records.STEP, step=3)
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["type"] for record in told] == [records.EPOCH, records.SAVED, records.STEP]
    assert told[2]["step"] == 3


def test_the_next_generation_waits_for_room_at_home_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.supervise.again._RETRY_S", 0.001)
    plan: Any = object()
    full = [True] * 3

    def cramped(_: MakePlan) -> Any:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/one/.plan.g2.json.1")
        return plan

    planner = Planner(cramped)
    try:
        planner.begin(MakePlan(2, frozenset(), "the last generation failed", onward=True))
        assert select.select([planner], [], [], 10)[0]
        assert planner.take() == PlanMade(plan)
        (told,) = planner.remarks()
        assert told == "no space left at /runs/one/.plan.g2.json.1: the next generation begins when there is room"
        assert planner.remarks() == []
    finally:
        planner.close()
