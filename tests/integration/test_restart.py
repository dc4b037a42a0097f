"""A run goes on by itself after a death: real processes, real signals."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Launcher, is_alive, launcher_in, wait_for
from worker.contract import records

# Its first life is ended by somebody else, the second one comes to its end.
DIES_ONCE = """
import os, signal, time
print("life", os.environ["LAUNCHER_GENERATION"], flush=True)
if os.environ["LAUNCHER_GENERATION"] == "1":
    if os.environ["LAUNCHER_RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
"""

ALWAYS_FAILS = """
import os
print("life", os.environ["LAUNCHER_GENERATION"], "process", os.getpid(), flush=True)
raise ValueError(f"row 17 of {id(object()):#x} is no image")
"""

QUICK = "restart: {backoff: 0.1 s}\ntimeouts: {stop: 1 s}\n"


def written(launcher: Launcher, type_: str, run: Path | None = None) -> list[dict[str, Any]]:
    return [e for e in launcher.events(run or launcher.newest(), None) if e["type"] == type_]


def screen_of(launcher: Launcher, number: int = 0) -> str:
    return " ".join((launcher.folder / f"command-{number}.log").read_text().split())


def test_a_program_whose_worker_was_killed_is_begun_again_and_the_screen_says_why(launcher: Launcher) -> None:
    done = launcher.run("up", str(launcher.program(DIES_ONCE, extra=QUICK)), "--plain")
    assert "rank 1 on here was killed by SIGKILL; the next generation begins in" in done.stdout
    assert "generation 2: 2 workers on here" in done.stdout
    assert [e["generation"] for e in written(launcher, records.GENERATION_STARTED)] == [1, 2]
    status = launcher.json("status")
    assert (status["state"], status["generation"], status["exit_code"]) == ("trained", 2, 0)
    assert (launcher.newest() / "hosts/here/g2/rank1.log").read_text() == "life 2\n"


def test_the_same_traceback_twice_ends_with_a_code_that_says_do_not_try_again(launcher: Launcher) -> None:
    done = launcher.run("up", str(launcher.program(ALWAYS_FAILS, workers=1, extra=QUICK)), "--plain", check=70)
    assert launcher.json("status")["state"] == "faulty"
    screen = done.stdout + done.stderr
    assert "the same error came twice" in screen
    assert "is no image" in screen[screen.index("cause:") :]
    assert len(written(launcher, records.GENERATION_STARTED)) == 2
    assert launcher.alive() == []


def test_what_fails_without_a_word_is_begun_again_until_the_budget_is_used_up(launcher: Launcher) -> None:
    spec = launcher.program("import sys; sys.exit(3)", workers=1, extra=QUICK.replace("{", "{max: 4, ", 1))
    done = launcher.run("up", str(spec), "--plain", check=1)
    assert "it failed 3 times within 1 h, 3 of them without progress" in done.stdout + done.stderr
    pauses = [event["pause_s"] for event in written(launcher, records.RESTART)]
    assert len(pauses) == 2
    assert pauses[1] > pauses[0] > 0


def test_a_killed_agent_is_started_again_with_its_workers(launcher: Launcher) -> None:
    waits = "import os, time\nwhile not os.path.exists(os.environ['GO']): time.sleep(0.02)\n"
    go = launcher.folder / "go"
    launcher.env["GO"] = str(go)
    up = launcher.start("up", str(launcher.program(waits, extra=QUICK)), "--plain")
    (agent,) = launcher.wait_event("agent_started")
    old = launcher.rank_pids()
    os.kill(agent["pid"], signal.SIGKILL)
    launcher.wait_event("rank_started", count=4)
    assert not any(is_alive(pid) for pid in old)
    assert len(launcher.wait_event("agent_started", count=2)) == 2
    go.touch()
    assert up.wait(20) == 0


def test_a_stop_while_the_next_generation_waits_ends_the_run_at_once(launcher: Launcher) -> None:
    spec = launcher.program(DIES_ONCE, extra="restart: {backoff: 60 s}\ntimeouts: {stop: 1 s}\n")
    up = launcher.start("up", str(spec), "--plain")
    launcher.wait_event(records.RESTART, host=None)
    assert launcher.json("status")["state"] == "restarting"
    began = time.monotonic()
    launcher.run("down")
    assert up.wait(10) == 130
    assert time.monotonic() - began < 10
    assert "between two generations" in screen_of(launcher)
    assert launcher.alive() == []


SPEC = """
name: cnn
hosts: [{name: here, local: true, workers: 2, threads: 1}]
train: {epochs: 12}
checkpoint: {every: 4 epochs}
"""


def final_arrays(launcher: Launcher) -> str:
    (end,) = [e for e in launcher.events(launcher.newest()) if e["type"] == "checkpoint" and e["why"] == "end"]
    return str(end["arrays"])


def victim_of(launcher: Launcher, generation: int) -> int:
    """Who is killed in a generation: a worker, the chief, the agent."""
    if generation == 3:
        return int([e for e in launcher.events(launcher.newest()) if e["type"] == "agent_started"][-1]["pid"])
    rank = {1: 1, 2: 0}[generation]
    started = [e for e in launcher.events(launcher.newest()) if e["type"] == "rank_started"]
    return int(next(e["pid"] for e in started if (e["generation"], e["rank"]) == (generation, rank)))


def kill_in(launcher: Launcher, generation: int) -> None:
    """Kill somebody in the midst of a generation's training."""
    wait_for(lambda: len(of(launcher, "rank_first_step", generation)) == 2, f"steps of generation {generation}", 60)
    epochs = len(of(launcher, "rank_epoch", generation))
    wait_for(lambda: len(of(launcher, "rank_epoch", generation)) > epochs, "another epoch", 60)
    os.kill(victim_of(launcher, generation), signal.SIGKILL)


@pytest.mark.tensorflow
@pytest.mark.timeout(300)
def test_three_kills_cost_no_finished_step_and_not_one_bit(tmp_path: Path) -> None:
    with launcher_in(tmp_path / "untouched") as launcher:
        launcher.run("up", str(launcher.spec(SPEC)), "--plain", timeout_s=120)
        untouched = final_arrays(launcher)
    with launcher_in(tmp_path / "killed") as launcher:
        up = launcher.start("up", str(launcher.spec(SPEC)), "--plain")
        for generation in (1, 2, 3):
            kill_in(launcher, generation)
        assert up.wait(120) == 0
        assert final_arrays(launcher) == untouched
        begun = written(launcher, records.GENERATION_STARTED)
        steps = [int(event["resumes"].partition("-s")[2] or 0) for event in begun]
        assert len(steps) == 4
        assert steps == sorted(steps)
        for generation, step in enumerate(steps[1:3], start=1):
            reached = [e["step"] for e in of(launcher, "rank_ended", generation)]
            assert step >= max(reached), "survivors' newest whole step is where the next generation begins"
        report = launcher.json("report")
        booked = report["booking"]
        assert round(sum(booked["seconds"].values()), 6) == booked["total_s"]
        lives = booked["generations"]
        assert all(life["reason"] for life in lives)
        again = lives[2]["reached"] - steps[3]  # nobody survived the agent
        assert [life["done_again"] for life in lives] == [0, 0, again, 0]
        assert bool(again) == (booked["seconds"]["lost work"] > 0)
        assert 0 < booked["seconds"]["checkpoint"] < booked["seconds"]["training"]
        assert [epoch["epoch"] for epoch in report["epochs"]] == list(range(1, 13))
        assert launcher.alive() == []


def of(launcher: Launcher, type_: str, generation: int) -> list[dict[str, Any]]:
    return [e for e in launcher.events(launcher.newest()) if e["type"] == type_ and e.get("generation") == generation]
