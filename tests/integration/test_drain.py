"""Announced ends: SIGTERM to a host, or `launcher drain`. Nothing is lost; the run goes on, or is parked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.harness import Launcher, launcher_in, wait_for

# Runs until it is sent SIGTERM, of which it dies; in later generations until there is a file.
PROGRAM = """
import os, pathlib, time
print("generation", os.environ["LAUNCHER_GENERATION"], flush=True)
while not pathlib.Path("{end}").exists():
    time.sleep(0.02)
"""
HOSTS = """name: drained
hosts:
  - {name: a, local: true}
  - {name: b, local: true, ports: 24100-24199}
"""


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    with launcher_in(tmp_path) as made:
        yield made


def program(launcher: Launcher, extra: str = "") -> Path:
    """A spec of two hosts that are this machine; its program ends once the file `end` is there."""
    job = launcher.folder / "job"
    job.mkdir()
    (job / "program.py").write_text(PROGRAM.format(end=launcher.folder / "end"))
    (job / "cluster.yaml").write_text(f"{HOSTS}program: [python, program.py]\n{extra}")
    return job / "cluster.yaml"


def begun(launcher: Launcher, generation: int, *hosts: str) -> str:
    """Wait until a generation's ranks run there; the run's name."""
    run = launcher.newest()
    for host in hosts:
        wait_for(lambda host=host: of(launcher, host, "rank_started", generation), f"generation {generation} on {host}")  # type: ignore[misc]
    return run.name


def of(launcher: Launcher, host: str | None, type_: str, generation: int | None = None) -> list[dict[str, Any]]:
    events = launcher.events(launcher.newest(), host)
    return [e for e in events if e["type"] == type_ and generation in (None, e.get("generation"))]


def everybody(launcher: Launcher, host: str) -> list[int]:
    """All of the run's processes on a host that is this machine: warden, agent, zygote, ranks, relay."""
    warden = psutil.Process(of(launcher, host, "agent_started")[-1]["warden_pid"])
    folder = str(launcher.newest() / "hosts" / host)
    relays = [p for p in launcher.alive() if "relay" in p.cmdline() and f"{folder}/code" in " ".join(p.cmdline())]
    return [process.pid for process in (*relays, warden, *warden.children(recursive=True))]


def test_sigterm_to_every_process_of_a_host_parks_a_run_that_needs_it_and_resume_goes_on(launcher: Launcher) -> None:
    up = launcher.start("up", str(program(launcher)), "--plain")
    run = begun(launcher, 1, "a", "b")
    for pid in everybody(launcher, "b"):
        os.kill(pid, signal.SIGTERM)
    assert up.wait(60) == 75
    status = launcher.json("status", run)
    assert (status["state"], status["exit_code"]) == ("parked", 75)
    assert "b has to go" in status["reason"]
    screen = (launcher.folder / "command-0.log").read_text()
    assert "b has to go" in screen
    assert f"go on: launcher resume {run}" in screen
    assert launcher.alive() == []
    (launcher.folder / "end").touch()
    launcher.run("resume", run, "--plain")
    assert launcher.json("status", run)["state"] == "trained"


def test_drain_says_beforehand_that_a_run_would_be_parked_and_parks_it_if_that_is_meant(launcher: Launcher) -> None:
    launcher.run("up", str(program(launcher)), "--detach")
    run = begun(launcher, 1, "a", "b")
    refused = launcher.run("drain", run, "b", check=2)
    assert "restart.min_workers is not set" in refused.stderr
    assert "--park" in refused.stderr
    assert "its hosts: a, b" in launcher.run("drain", run, "x", check=2).stderr
    assert launcher.json("status", run)["state"] == "training"
    parked = json.loads(launcher.run("drain", run, "b", "--park", "--json", check=75).stdout)
    assert (parked["state"], parked["left"], parked["exit_code"]) == ("parked", ["b"], 75)
    wait_for(lambda: launcher.alive() == [], "the end")


def test_a_drained_host_is_free_while_the_run_goes_on_without_it(launcher: Launcher) -> None:
    spec = program(launcher, "restart: {max: 0, min_workers: 1}\n")
    up = launcher.start("up", str(spec), "--plain")
    run = begun(launcher, 1, "a", "b")
    drained = launcher.run("drain", run, "b")
    assert "generation 2: 1 worker on a" in drained.stdout
    assert drained.stdout.splitlines()[-1] == "b is free"
    assert all(not psutil.pid_exists(e["pid"]) for e in of(launcher, "b", "agent_started"))
    assert "b" in launcher.run("drain", run, "b", check=2).stderr
    begun(launcher, 2, "a")
    (launcher.folder / "end").touch()
    assert up.wait(30) == 0
    (restart,) = of(launcher, None, "restart")
    assert restart["planned"]


TRAIN = """name: drained
hosts:
  - {name: a, local: true, threads: 1, ports: 24200-24299}
  - {name: b, local: true, threads: 1, ports: 24300-24399}
  - {name: c, local: true, threads: 1, ports: 24400-24499}
train: {dataset: fashion-mnist-mini, epochs: 8, batch_size: 64}
restart: {max: 0, min_workers: 2}
checkpoint: {every: 100 epochs}
"""


def a_while(launcher: Launcher, generation: int) -> None:
    wait_for(lambda: of(launcher, "a", "rank_first_step", generation), f"steps of generation {generation}", 120)
    wait_for(lambda: of(launcher, "a", "rank_epoch", generation), "an epoch", 60)


@pytest.mark.tensorflow
@pytest.mark.timeout(300)
def test_training_loses_no_step_when_one_host_is_drained_and_all_of_another_is_sent_sigterm(
    launcher: Launcher,
) -> None:
    up = launcher.start("up", str(launcher.spec(TRAIN)), "--plain")
    a_while(launcher, 1)
    run = launcher.newest().name
    assert "generation 2: 2 workers on a, b" in launcher.run("drain", run, "c", timeout_s=120).stdout
    a_while(launcher, 2)
    for pid in everybody(launcher, "b"):
        os.kill(pid, signal.SIGTERM)
    assert up.wait(60) == 75
    launcher.run("resume", run, "--plain", timeout_s=150)
    report = launcher.json("report", run)
    assert report["state"] == "trained"
    lives = report["booking"]["generations"]
    assert [life["workers"] for life in lives] == [3, 2, 3]
    assert [life["done_again"] for life in lives] == [0, 0, 0]
    assert [life["from_step"] for life in lives[1:]] == [life["reached"] for life in lives[:-1]]
    assert lives[-1]["reached"] == of(launcher, "a", "rank_epoch")[-1]["step"] == 8 * steps_of_an_epoch(launcher)
    assert [epoch["epoch"] for epoch in report["epochs"]] == list(range(1, 9))
    spent = report["booking"]["seconds"]
    assert (spent["rescue"], spent["detection"], spent["lost work"]) == (0, 0, 0)


def steps_of_an_epoch(launcher: Launcher) -> int:
    """Steps in an epoch."""
    return int(of(launcher, "a", "rank_epoch", 1)[0]["step"])
