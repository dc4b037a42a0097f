"""A host that dies for good: the run goes on with fewer, takes in who comes back, or has a spare take its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.far import Far, far_in
from tests.integration.harness import wait_for

# Saves what counts as a checkpoint, fails as one that has lost a peer, and ends, each when it is told to.
PROGRAM = """
import hashlib, json, os, sys, time
from pathlib import Path
here, generation = Path(HERE), os.environ["LAUNCHER_GENERATION"]
step = 0
while not (here / "end").exists():
    if os.environ["LAUNCHER_RANK"] == "0" and (here / ("save" + generation)).exists():
        step += 1
        name = f"g{generation}-s{step}"
        folder = Path(os.environ["LAUNCHER_CHECKPOINT_DIR"], name)
        folder.mkdir()
        (folder / "arrays.npz").write_bytes(b"weights")
        files = {"arrays.npz": {"bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}}
        manifest = {"files": files, "step": step, "epoch": 1, "generation": int(generation)}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with open(os.environ["LAUNCHER_PROGRESS_FILE"], "ab") as file:
            told = {"t": time.time(), "type": "saved", "folder": name, "step": step, "epoch": 1, "why": "every"}
            file.write(json.dumps(told).encode() + b"\\n")
        time.sleep(0.2)
    if (here / ("lost" + generation)).exists():
        sys.exit("a peer is lost")
    time.sleep(0.05)
"""


def records(far: Far, type_: str) -> list[dict[str, Any]]:
    return [event for event in far.launcher.events(far.launcher.newest(), None) if event["type"] == type_]


def at_work(far: Far) -> list[list[str]]:
    """The hosts of each generation, in the order of their ranks."""
    return [[rank["host"] for rank in event["ranks"]] for event in records(far, "generation_started")]


def begins(far: Far, *hosts: str) -> None:
    """Wait for a generation with these hosts, whose workers run."""
    wait_for(lambda: at_work(far)[-1:] == [list(hosts)], f"a generation on {hosts}", 60)
    wait_for(lambda: far.launcher.json("status")["state"] == "training", "its workers", 60)


def begun(far: Far, folder: Path, restart: str) -> Any:
    source = PROGRAM.replace("HERE", repr(str(folder)))
    spec = far.program(source, f"restart: {{{restart}}}\ntimeouts: {{host: 2 s}}\n")
    up = far.launcher.start("up", str(spec), "--plain")
    wait_for(lambda: list(far.launcher.runs.glob("*/events.jsonl")), "the run", 60)
    return up


def test_a_host_that_comes_back_is_taken_in_at_the_next_checkpoint_and_that_costs_no_budget(tmp_path: Path) -> None:
    with far_in(tmp_path / "far", count=3) as far:
        up = begun(far, tmp_path, "max: 2, backoff: 0.1 s, min_workers: 2, grow: at_checkpoint")
        begins(far, "h1", "h2", "h3")
        far.hosts[0].crash()
        (tmp_path / "lost1").touch()
        begins(far, "h2", "h3")
        (gone,) = far.launcher.json("status")["without"]
        assert gone["host"] == "h1"
        far.hosts[0].start()
        far.launcher.wait_event("commanded_by", "h1", count=2)
        (tmp_path / "save2").touch()
        begins(far, "h1", "h2", "h3")
        (tmp_path / "end").touch()
        assert up.wait(60) == 0
        failed, planned = records(far, "restart")
        assert (failed["generation"], failed.get("planned")) == (1, None)
        assert (planned["generation"], planned["planned"], planned["message"]) == (2, True, "h1 can take part")
        assert far.launcher.json("status")["without"] == []
        booked = far.launcher.json("report")["booking"]
        assert [life["hosts"] for life in booked["generations"]] == [
            ["h1", "h2", "h3"],
            ["h2", "h3"],
            ["h1", "h2", "h3"],
        ]
        assert booked["generations"][1]["seconds"]["rescue"] == 0, "nothing failed"
        assert round(sum(booked["seconds"].values()), 6) == booked["total_s"]


def test_a_spare_takes_the_place_of_a_host_that_is_lost(tmp_path: Path) -> None:
    with far_in(tmp_path / "far", count=3) as far:
        up = begun(far, tmp_path, "backoff: 0.1 s, spares: 1")
        begins(far, "h1", "h2")
        assert far.launcher.json("status")["without"] == [{"host": "h3", "why": "in reserve"}]
        far.hosts[0].crash()
        (tmp_path / "lost1").touch()
        begins(far, "h2", "h3")
        plan = json.loads((far.launcher.newest() / "plan.g2.json").read_text())
        assert [host["ranks"] for host in plan["hosts"]] == [[], [0], [1]]
        (tmp_path / "end").touch()
        assert up.wait(60) == 0
        assert (far.launcher.newest() / "hosts/h3/g2/rank1.log").exists()


@pytest.mark.tensorflow
@pytest.mark.timeout(240)
def test_training_goes_on_without_the_chiefs_host_and_the_global_batch_stays(tmp_path: Path) -> None:
    job = """train: {dataset: fashion-mnist-mini, epochs: 8, batch_size: 64}
checkpoint: {every: 4 epochs}
restart: {min_workers: 2}
timeouts: {host: 2 s}
"""
    with far_in(tmp_path / "far", count=3) as far:
        up = far.launcher.start("up", str(far.spec(job, each="threads: 1")), "--plain")
        wait_for(lambda: list(far.launcher.runs.glob("*/events.jsonl")), "the run", 60)
        far.launcher.wait_event("rank_epoch", "h1")
        far.hosts[0].crash()
        assert up.wait(150) == 0, (far.launcher.folder / "command-0.log").read_text()
        assert at_work(far) == [["h1", "h2", "h3"], ["h2", "h3"]]
        run = far.launcher.newest()
        plans = [json.loads((run / f"plan.g{generation}.json").read_text()) for generation in (1, 2)]
        assert [plan["global_batch"] for plan in plans] == [64, 64]
        steps = {
            json.loads(line)["steps"]
            for path in run.glob("hosts/h2/g*/rank*.progress.jsonl")
            for line in path.read_text().splitlines()
            if json.loads(line)["type"] == "step"
        }
        (total,) = steps
        (end,) = [e for e in far.launcher.events(run, "h2") if e["type"] == "checkpoint" and e["why"] == "end"]
        assert end["step"] == total
        log = (run / "hosts/h2/g2/rank0.log").read_text()
        assert "workers: 3 → 2" in log
        assert [life["done_again"] for life in far.launcher.json("report")["booking"]["generations"]] == [0, 0]
        screen = (far.launcher.folder / "command-0.log").read_text()
        assert "generation 2: 2 workers on 2 hosts" in screen
        assert "without h1" in screen
