"""Two hosts on this machine, each with its own agent and folder: both hold every checkpoint, and they are compared."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rescue_proof import BATCH, STEPS_PER_EPOCH, make_data
from tests.integration.harness import Launcher, launcher_in
from worker.contract import checkpoints, records

HERE = Path(__file__).parent


def wrapped(folder: Path, name: str, *line: str) -> Path:
    """A `python:` that runs a script of ours with what it was given, if the line does not say otherwise."""
    path = folder / name
    path.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, *line])}" + ' "$@"\n')
    path.chmod(0o755)
    return path


def spec(launcher: Launcher, hosts: str, train: str = "{}", checkpoint: str = "{}") -> Path:
    return launcher.spec(f"name: pair\nhosts: [{hosts}]\ntrain: {train}\ncheckpoint: {checkpoint}\n")


def published(run: Path, host: str) -> dict[str, bytes]:
    """The arrays of every checkpoint of a host, as they lie on its disk."""
    folder = run / "hosts" / host / "checkpoints"
    return {path.name: (path / checkpoints.ARRAYS).read_bytes() for path in folder.iterdir()}


def told(launcher: Launcher, run: Path, host: str | None, type_: str) -> list[dict[str, Any]]:
    return [event for event in launcher.events(run, host) if event["type"] == type_]


def test_copies_that_differ_end_the_run_and_every_view_says_so(launcher: Launcher) -> None:
    """Stand-ins for trainers: what they save is as good as weights to the agents."""
    fake = str(HERE / "fake_trainer.py")
    a = wrapped(launcher.folder, "python a", fake, "step:1", "save:5", "save:9", "stay")
    b = wrapped(launcher.folder, "python b", fake, "step:1", "save:5", "save:9:other", "stay")
    path = spec(launcher, f"{{name: a, local: true, python: '{a}'}}, {{name: b, local: true, python: '{b}'}}")
    done = launcher.run("up", str(path), check=1)
    message = "rank 0 on a and rank 1 on b do not hold the same numbers at step 9"
    run = launcher.newest()
    (note,) = told(launcher, run, None, records.COPIES_DIFFER)
    assert [(copy["host"], copy["rank"]) for copy in note["copies"]] == [("a", 0), ("b", 1)]
    for screen in (done.stdout, launcher.run("status").stdout, launcher.run("report").stdout):
        words = " ".join(screen.split())
        assert message in words
        assert "goes on from g1-s5" in words
    status = launcher.json("status")
    assert (status["state"], status["exit_code"]) == ("failed", 1)
    assert [divergence["name"] for divergence in status["divergences"]] == ["g1-s9"]


@pytest.mark.tensorflow
@pytest.mark.timeout(300)
def test_both_hosts_hold_every_checkpoint_one_serves_for_the_other_and_a_rank_that_differs_is_named(
    tmp_path: Path,
) -> None:
    flip, data = tmp_path / "flip", tmp_path / "small.npz"
    make_data(data)
    python = wrapped(tmp_path, "python", str(HERE / "meddler.py"))
    hosts = f"{{name: a, local: true}}, {{name: b, local: true, python: '{python}', env: {{MEDDLE_FLIP: '{flip}'}}}}"
    with launcher_in(tmp_path / "runs of two") as launcher:
        train = f"{{dataset: {{npz: '{data}'}}, epochs: 4, batch_size: {BATCH}}}"
        launcher.run("up", str(spec(launcher, hosts, train, "{every: 1 epoch, keep: 2}")), timeout_s=120)
        run = launcher.newest()
        newest, before = f"g1-s{4 * STEPS_PER_EPOCH}", f"g1-s{3 * STEPS_PER_EPOCH}"
        assert set(published(run, "a")) == {before, newest}, "older ones are pruned on each host"
        assert published(run, "a") == published(run, "b")
        for rank, host in enumerate("ab"):
            saved = told(launcher, run, host, records.CHECKPOINT)
            assert [(event["rank"], event["why"]) for event in saved] == [(rank, "every")] * 3 + [(rank, "end")]
        assert launcher.json("status")["divergences"] == []

        damaged = run / "hosts/a/checkpoints" / newest / checkpoints.ARRAYS
        damaged.write_bytes(damaged.read_bytes()[:-1])
        change = ["--set", "train.epochs=1000", "--set", "checkpoint.keep=1000", "--set", "restart.max=0"]
        resumed = launcher.start("resume", run.name, *change, "--plain")
        launcher.wait_event("checkpoint", host="b", count=6, timeout_s=90)
        flip.touch()
        assert resumed.wait(60) == 1
        screen = " ".join((launcher.folder / "command-0.log").read_text().split())
        assert f"passed over the checkpoint {newest}: {damaged.parent}" in screen
        assert f"going on from {newest}" in screen
        assert "cause: rank 1 on b: ended with exit code 84" in screen
        status = launcher.json("status")
        assert (status["state"], status["exit_code"], status["cause"]["rank"]) == ("failed", 1, 1)
        assert "rank 1 differs from the others" in status["cause"]["message"]
        saved = told(launcher, run, "a", records.CHECKPOINT)
        assert saved[-1]["step"] < int(status["cause"]["message"].partition("after step ")[2].partition(":")[0])
        for verb in ("status", "report"):
            words = " ".join(launcher.run(verb).stdout.split())
            assert "resume from the checkpoint before; if it happens again, suspect the memory or GPU" in words
            assert f"launcher resume {run.name} goes on from {saved[-1]['name']}" in words
