"""Another coordinator takes over a run on other machines, whatever the first did when it was killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.runs.alive import listener
from tests.integration.far import Far, far_in
from tests.integration.harness import is_alive, wait_for
from tests.integration.taken import COUNTS, Run
from tests.integration.there import alive_on, nothing_alive
from tests.lab.hosts import why_no_sshd
from worker.contract import records
from worker.contract.layout import coordinator_socket

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    with far_in(tmp_path) as one:
        yield one


def test_a_run_on_other_machines_is_taken_over_while_it_trains(far: Far) -> None:
    run = Run(far)
    pids = [run.of(host.name, records.RANK_STARTED)[0]["pid"] for host in far.hosts]
    run.kill_coordinator()
    ended = run.attach()
    run.taken_over()
    assert all(is_alive(pid) for pid in pids)
    run.go.touch()
    assert ended() == 0
    run.is_whole(generation=1)


@pytest.mark.parametrize(
    ("host", "record", "generation"),
    [
        pytest.param(None, records.COORDINATOR_STARTED, 1, marks=pytest.mark.long),
        (None, records.GENERATION_STARTED, 1),
        ("h2", records.RANK_ENDED, 2),
        pytest.param(None, records.RESTART, 2, marks=pytest.mark.long),
        (None, records.REPLANNED, 2),
        pytest.param("h1", records.RANK_STARTED, 2, marks=pytest.mark.long),
    ],
    ids=["reaching", "starting", "rescuing", "pausing", "planning", "starting-again"],
)
def test_a_coordinator_is_killed_at_a_bad_moment_and_another_one_goes_on(
    far: Far, host: str | None, record: str, generation: int
) -> None:
    run = Run(far, start=False)
    far.launcher.start("up", "-d", str(run.spec))
    if generation == 2:
        run.started()
        (run.spec.parent / "program.py").write_text("print('edited')\n")
        run.die.write_text("h2")
    number = 2 if record == records.RANK_STARTED else None
    wait_for(lambda: run.of(host, record, number), f"{record} of {host}")
    run.kill_coordinator()
    ended = run.attach()
    run.taken_over()
    run.started(generation)
    run.go.touch()
    assert ended() == 0
    run.is_whole(generation)


def test_a_coordinator_is_killed_while_what_the_run_left_is_gathered(far: Far) -> None:
    run = Run(far)
    run.go.touch()
    wait_for(lambda: run.of("h2", records.GENERATION_ENDED), "the end on h2")
    run.kill_coordinator()
    assert run.attach()() == 0
    run.is_whole(generation=1)


def test_a_run_that_came_to_its_end_while_nobody_watched_comes_home(far: Far) -> None:
    run = Run(far)
    run.kill_coordinator()
    run.go.touch()
    wait_for(lambda: not any(alive_on(host) for host in far.hosts), "the agents to leave", 20)
    assert run.attach()() == 0
    run.is_whole(generation=1)


def test_an_agent_that_died_with_the_coordinator_is_replaced_and_no_edit_is_seen(far: Far) -> None:
    run = Run(far)
    (run.spec.parent / "program.py").write_text("print('edited')\n")
    run.kill_coordinator()
    os.kill(run.of("h2", records.AGENT_STARTED)[0]["pid"], signal.SIGKILL)
    ended = run.attach()
    run.started(2)
    run.go.touch()
    assert ended() == 0
    run.is_whole(generation=2)


def test_a_coordinator_killed_before_anything_was_started_is_begun_again_by_attach(far: Far) -> None:
    run = Run(far, start=False)
    up = far.launcher.start("up", "--plain", str(run.spec))
    folder = wait_for(lambda: next(far.launcher.runs.glob("far-*/run.json"), None), "the run's folder").parent
    os.kill(wait_for(lambda: listener(coordinator_socket(str(folder))), "the coordinator"), signal.SIGKILL)
    assert up.wait(20) == 1
    assert f"launcher attach {folder.name}" in (far.launcher.folder / "command-0.log").read_text()
    assert not (folder / "events.jsonl").exists()
    run.go.touch()
    assert run.attach(folder.name)() == 0
    run.is_whole(generation=1)


def test_a_stop_that_was_under_way_is_carried_out_on_other_machines(far: Far) -> None:
    run = Run(far, "timeouts: {stop: 30 s}\n")
    for host in far.hosts:  # their ranks hear nothing of it before they are awake
        os.kill(run.of(host.name, records.RANK_STARTED)[0]["pid"], signal.SIGSTOP)
    down = far.launcher.start("down")
    wait_for(lambda: run.of("h2", "rank_asked_to_stop"), "the stop to be under way")
    run.kill_coordinator()
    ended = run.attach()
    run.taken_over()
    for host in far.hosts:
        os.kill(run.of(host.name, records.RANK_STARTED)[0]["pid"], signal.SIGCONT)
    assert ended() == 130
    down.wait(20)
    nothing_alive(far)


def test_a_parked_run_is_taken_in_hand_and_goes_on(far: Far) -> None:
    run = Run(far, "timeouts: {stop: 1 s, host: 3 s, lease: 3 s}\n")
    run.kill_coordinator()
    wait_for(lambda: not any(alive_on(host) for host in far.hosts), "the lease's end", 20)
    ended = run.attach()
    run.started(2)
    run.go.touch()
    assert ended() == 0
    ends = [end["state"] for end in run.of(None, records.RUN_ENDED)]
    assert ends == ["parked", "trained"]
    nothing_alive(far)


def test_over_the_systems_ssh_what_activate_gives_is_asked_for_again(far: Far) -> None:
    run = Run(
        far,
        each="transport: openssh, activate: export TOLD=again",
        source="import os\nprint(os.environ['TOLD'])\n" + COUNTS,
    )
    run.kill_coordinator()
    run.die.write_text("h2")
    ended = run.attach()
    run.started(2)
    run.go.touch()
    assert ended() == 0
    assert (run.folder / "hosts" / "h2" / "g2" / "rank1.log").read_text().startswith("again\n")
    assert "again" not in (run.folder / "staged.json").read_text()
    nothing_alive(far)
