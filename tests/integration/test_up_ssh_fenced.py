"""Two coordinators that do not see each other: the one with the higher term has the run, the other one yields."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.far import far_in
from tests.integration.harness import is_alive, wait_for
from tests.integration.taken import Run
from tests.integration.there import folder_on
from tests.lab.hosts import why_no_sshd
from worker.contract import records

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """The folder that runs are kept in, as another machine sees it that shares the disk: under another path, so that
    the socket by which coordinators of one machine find each other is another one."""
    (tmp_path / "home" / "runs").mkdir(parents=True)
    there = tmp_path / "elsewhere"
    there.mkdir()
    done = subprocess.run(["mount", "--bind", tmp_path / "home" / "runs", there], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount")
    try:
        yield there
    finally:
        subprocess.run(["umount", "-l", there], check=True)


def test_a_coordinator_that_wakes_to_find_its_run_in_other_hands_yields_and_stops_nothing(
    tmp_path: Path, elsewhere: Path
) -> None:
    with far_in(tmp_path) as far:
        run = Run(far)
        pids = [run.of(host.name, records.RANK_STARTED)[0]["pid"] for host in far.hosts]
        old = run.of(None, records.COORDINATOR_STARTED)[0]["pid"]
        os.kill(old, signal.SIGSTOP)
        ended = run.attach(str(elsewhere / run.folder.name))
        run.taken_over()
        for host in far.hosts:
            journal = folder_on(host) / "events.jsonl"  # what is at home is held by the frozen one
            wait_for(lambda journal=journal: b'"term":2' in journal.read_bytes(), "the agents to obey it")  # type: ignore[misc]
        told = (run.folder / "events.jsonl").read_bytes()
        os.kill(old, signal.SIGCONT)
        wait_for(lambda: not is_alive(old), "the first one to yield")
        assert all(is_alive(pid) for pid in pids)
        since = (run.folder / "events.jsonl").read_bytes()[len(told) :]
        assert b'"stop_requested"' not in since
        assert b'"link_lost"' not in since
        assert "another coordinator has the run" in (run.folder / "coordinator.log").read_text()
        run.go.touch()
        assert ended() == 0
        run.is_whole(generation=1)
