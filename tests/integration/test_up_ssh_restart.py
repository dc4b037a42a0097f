"""A run on other machines goes on by itself after a worker, and a whole host, were lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.far import Far, far_in
from tests.integration.harness import launcher_in, wait_for

TRAIN = """train: {dataset: fashion-mnist-mini, epochs: 10, batch_size: 64}
checkpoint: {every: 4 epochs}
timeouts: {host: 3 s}
"""
HERE = """name: here
hosts: [{name: a, local: true, threads: 1}, {name: b, local: true, threads: 1, ports: 20300-20399}]
"""


def of(far: Far, host: str, type_: str, generation: int) -> list[dict[str, Any]]:
    events = far.launcher.events(far.launcher.newest(), host)
    return [event for event in events if event["type"] == type_ and event.get("generation") == generation]


def train_a_while(far: Far, generation: int) -> None:
    wait_for(lambda: of(far, "h2", "rank_first_step", generation), f"steps of generation {generation}", 90)
    epochs = len(of(far, "h1", "rank_epoch", generation))
    wait_for(lambda: len(of(far, "h1", "rank_epoch", generation)) > epochs, "another epoch", 60)


@pytest.mark.tensorflow
@pytest.mark.timeout(300)
def test_a_killed_worker_and_a_host_that_went_down_and_came_back_cost_not_one_bit(tmp_path: Path) -> None:
    with launcher_in(tmp_path / "local") as local:
        local.run("up", str(local.spec(HERE + TRAIN)), timeout_s=120)
        (end,) = [e for e in local.events(local.newest(), "a") if e["type"] == "checkpoint" and e["why"] == "end"]
    with far_in(tmp_path / "far") as far:
        spec = far.spec(TRAIN, each="threads: 1")
        up = far.launcher.start("up", str(spec), "--plain")
        train_a_while(far, 1)
        os.kill(of(far, "h2", "rank_started", 1)[0]["pid"], signal.SIGKILL)
        train_a_while(far, 2)
        far.hosts[1].crash()
        wait_for(lambda: far.launcher.json("status")["state"] == "restarting", "the loss to be told", 60)
        far.hosts[1].start()
        assert up.wait(120) == 0
        run = far.launcher.newest()
        begun = [e for e in far.launcher.events(run, None) if e["type"] == "generation_started"]
        steps = [int(event["resumes"].partition("-s")[2] or 0) for event in begun]
        assert steps == sorted(steps)
        assert len(set(steps)) == 3
        (last,) = [e for e in far.launcher.events(run, "h1") if e["type"] == "checkpoint" and e["why"] == "end"]
        assert (last["step"], last["arrays"]) == (end["step"], end["arrays"])
        screen = " ".join((far.launcher.folder / "command-0.log").read_text().split())
        assert "rank 1 on h2 was killed by SIGKILL; the next generation begins now" in screen
        status = far.launcher.json("status")
        assert (status["state"], status["unreachable"]) == ("trained", [])
        booked = far.launcher.json("report")["booking"]
        assert [life["done_again"] for life in booked["generations"]] == [0, 0, 0]
        assert round(sum(booked["seconds"].values()), 6) == booked["total_s"]
        assert booked["generations"][1]["seconds"]["rescue"] > 2.5, "h1 noticed at once, and h2 was waited for"
        assert booked["generations"][2]["seconds"]["waiting"] > 0, "h2 was away"


TELLS = """
import os, time
print("as it was", os.environ["LAUNCHER_GENERATION"], flush=True)
while os.environ["LAUNCHER_GENERATION"] == "1":
    time.sleep(0.05)
"""


def test_a_host_whose_agent_died_goes_on_with_what_was_staged_and_not_with_what_was_edited_since(
    tmp_path: Path,
) -> None:
    with far_in(tmp_path) as far:
        spec = far.program(TELLS, "restart: {backoff: 0.1 s}\n")
        up = far.launcher.start("up", str(spec), "--plain")
        for host in ("h1", "h2"):
            far.launcher.wait_event("rank_started", host)
        (spec.parent / "program.py").write_text("print('edited')\n")
        (agent,) = far.launcher.wait_event("agent_started", "h2")
        os.kill(agent["pid"], signal.SIGKILL)
        assert up.wait(60) == 0
        run = far.launcher.newest()
        for rank, host in enumerate(("h1", "h2")):
            assert (run / "hosts" / host / "g2" / f"rank{rank}.log").read_text() == "as it was 2\n"
