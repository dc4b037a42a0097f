"""Another coordinator takes a run in hand: after kill -9 of the first, whatever it did just then, or instead of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.integration.harness import Launcher, is_alive, wait_for
from worker.contract import records

WAITS = """
import os, time
print("life", os.environ["LAUNCHER_GENERATION"], flush=True)
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.02)
"""

# As above, but its first life ends by itself, with a failure, once DIE is there.
MORTAL = """
import os, signal, time
first = os.environ["LAUNCHER_GENERATION"] == "1"
while not os.path.exists(os.environ["GO"]):
    if first and os.path.exists(os.environ["DIE"]):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
"""
SHORT = "timeouts: {stop: 1 s}\n"


def coordinator(launcher: Launcher, run: Path | None = None) -> int:
    return int(launcher.json("status", *([str(run)] if run else []))["coordinator_pid"])


def begin(launcher: Launcher, program: str = WAITS, extra: str = SHORT) -> tuple[Path, Path]:
    """A run that has started all its workers; its folder, and the file that lets them go."""
    go = launcher.folder / "go"
    launcher.env.update(GO=str(go), DIE=str(launcher.folder / "die"))
    launcher.run("up", "-d", str(launcher.program(program, extra=extra)))
    launcher.wait_event("rank_started", count=2)
    return launcher.newest(), go


def kill_coordinator(launcher: Launcher) -> None:
    pid = coordinator(launcher)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), "the coordinator's death")


def of_run(launcher: Launcher, run: Path, type_: str) -> list[dict[str, Any]]:
    return [event for event in launcher.events(run, None) if event["type"] == type_]


def test_attach_takes_a_run_over_from_a_dead_coordinator_and_brings_it_to_its_end(launcher: Launcher) -> None:
    run, go = begin(launcher)
    workers = launcher.rank_pids()
    kill_coordinator(launcher)
    view = launcher.start("attach", "--plain")
    wait_for(lambda: launcher.json("status")["coordinator_pid"], "another coordinator")
    assert launcher.rank_pids() == workers, "the workers that were there are the workers that are there"
    go.touch()
    assert view.wait(20) == 0
    assert [event["term"] for event in of_run(launcher, run, records.COORDINATOR_STARTED)] == [1, 2]
    assert len(of_run(launcher, run, records.GENERATION_STARTED)) == 1
    (end,) = of_run(launcher, run, records.RUN_ENDED)
    assert (end["state"], end["exit_code"]) == ("trained", 0)
    assert launcher.alive() == []


def test_what_died_while_nobody_watched_is_begun_again_once_somebody_does(launcher: Launcher) -> None:
    run, go = begin(launcher, MORTAL)
    kill_coordinator(launcher)
    (launcher.folder / "die").touch()
    launcher.wait_event("generation_ended")
    view = launcher.start("attach", "--plain")
    launcher.wait_event("rank_started", count=4)
    go.touch()
    assert view.wait(20) == 0
    assert [event["generation"] for event in of_run(launcher, run, records.GENERATION_STARTED)] == [1, 2]


def test_a_run_that_came_to_its_end_while_nobody_watched_gets_its_end_and_report(launcher: Launcher) -> None:
    run, go = begin(launcher)
    kill_coordinator(launcher)
    go.touch()
    launcher.wait_event("agent_left")
    done = launcher.run("attach", "--plain")
    assert "trained" in done.stdout
    assert of_run(launcher, run, records.RUN_ENDED)[0]["state"] == "trained"


def test_a_coordinator_killed_between_two_generations_is_replaced_and_the_next_one_begins(launcher: Launcher) -> None:
    run, go = begin(launcher, MORTAL, extra=f"restart: {{backoff: 50 s}}\n{SHORT}")
    (launcher.folder / "die").touch()
    launcher.wait_event(records.RESTART, host=None)
    kill_coordinator(launcher)
    spec = run / "cluster.yaml"
    spec.write_text(spec.read_text().replace("50 s", "0.1 s"))
    view = launcher.start("attach", "--plain")
    launcher.wait_event("rank_started", count=4)
    go.touch()
    assert view.wait(20) == 0


def test_a_stop_that_the_dead_coordinator_had_begun_is_carried_out(launcher: Launcher) -> None:
    begin(launcher)
    kill_coordinator(launcher)
    launcher.start("attach", "--plain")
    wait_for(lambda: launcher.json("status")["coordinator_pid"], "another coordinator")
    kill_coordinator(launcher)
    third = launcher.start("attach", "--plain")
    wait_for(lambda: launcher.json("status")["coordinator_pid"], "a third coordinator")
    launcher.run("down")
    assert third.wait(20) == 130


def test_of_two_that_would_take_over_one_does_and_both_show_the_run(launcher: Launcher) -> None:
    run, go = begin(launcher)
    kill_coordinator(launcher)
    views = [launcher.start("attach", "--plain") for _ in range(2)]
    wait_for(lambda: launcher.json("status")["coordinator_pid"], "another coordinator")
    go.touch()
    assert [view.wait(20) for view in views] == [0, 0]
    assert len(of_run(launcher, run, records.COORDINATOR_STARTED)) == 2


def test_a_frozen_coordinator_is_shown_and_replaced_only_when_that_is_asked_for(launcher: Launcher) -> None:
    run, go = begin(launcher)
    old = coordinator(launcher)
    os.kill(old, signal.SIGSTOP)
    view = launcher.start("attach", "--plain", "--take-over")
    wait_for(lambda: not is_alive(old), "the frozen one's end")
    wait_for(lambda: len(of_run(launcher, run, records.COORDINATOR_STARTED)) == 2, "another coordinator")
    go.touch()
    assert view.wait(20) == 0


def test_only_looking_takes_nothing_over(launcher: Launcher) -> None:
    run, go = begin(launcher)
    kill_coordinator(launcher)
    view = launcher.start("attach", "--plain", "--look")
    go.touch()
    assert view.wait(20) == 0
    assert len(of_run(launcher, run, records.COORDINATOR_STARTED)) == 1
    wait_for(lambda: not launcher.alive(), "the agent's leave")
