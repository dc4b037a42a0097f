"""The trial all-reduce: who is blamed, and that nothing of it is left. The workers are stand-ins."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from launcher.check.deep import Told, all_reduce
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from launcher.plan.build import plan
from launcher.spec.model import HostSpec, Timeouts
from tests.plan_values import facts, spec

GOOD = {"replicas": 2, "join_s": 0.1, "steps_s": [0.2, 0.01], "right": True}


def trial(folder: Path, *scripts: str, start: float = 30.0) -> tuple[Told, ...]:
    """A trial of one worker for each script, every one on a host of its own."""
    names = [f"h{n}" for n in range(len(scripts))]
    cluster = spec(*(HostSpec(name, local=True, gpus=0) for name in names), timeouts=Timeouts(start=start))
    known = {}
    for name, script in zip(names, scripts, strict=True):
        python = folder / f"python of {name}"
        python.write_text(f"#!/bin/sh\necho $$ >> '{folder}/pids'\n{script}\n")
        python.chmod(0o755)
        known[name] = facts(name, python=str(python))
    with ExitStack() as stack:
        sessions: dict[str, Session] = {name: stack.enter_context(closing(LocalSession(name))) for name in names}
        return all_reduce(cluster, sessions, plan(cluster, known, run="job-1"), known)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


def says(**changed: object) -> str:
    return f"echo 'launcher-deep {json.dumps({**GOOD, **changed})}'"


def nothing_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 10
    pids = (folder / "pids").read_text().split()
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):  # noqa: PTH110 - a pid is no path
        assert time.monotonic() < deadline, "a worker of the trial is still there"
        time.sleep(0.02)
    assert list((folder / "tmp").iterdir()) == []


def test_workers_that_add_up_right_are_told_with_their_times(folder: Path) -> None:
    told = trial(folder, says(), says())
    assert told == (Told(0, "h0", "", False, 2, 0.1, 0.01), Told(1, "h1", "", False, 2, 0.1, 0.01))
    nothing_is_left(folder)


def test_the_worker_that_failed_is_the_cause_and_those_that_waited_are_ended(folder: Path) -> None:
    begun = time.monotonic()
    told = trial(folder, "sleep 600", "echo no such device >&2; exit 3")
    assert time.monotonic() - begun < 20
    assert (told[0].victim, told[1].victim) == (True, False)
    assert told[1].why == "exit code 3 | no such device"
    nothing_is_left(folder)


def test_a_wrong_sum_is_a_failure(folder: Path) -> None:
    (told,) = trial(folder, says(right=False))
    assert told.why.startswith("exit code 0")


def test_a_worker_that_never_comes_back_costs_the_deadline(folder: Path) -> None:
    (told,) = trial(folder, "sleep 600", start=1.5)
    assert "no end within 1.5 s" in told.why
    nothing_is_left(folder)
