"""`up` with the built-in trainer: two real workers, one shared run for most of what a user sees of it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import ROOT, Launcher, launcher_in, wait_for

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]

SPEC = """\
name: small
hosts: [{name: here, local: true, workers: 2}]
train: {dataset: fashion-mnist-mini, epochs: 2, batch_size: 64}
checkpoint: {every: 1 epoch, keep: 3}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Launcher, str]]:
    """A finished run and the screen of its `up`; the environment has a proxy that must not be used."""
    with launcher_in(tmp_path_factory.mktemp("shared")) as launcher:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            launcher.env[name] = "http://127.0.0.1:9"
        launcher.env.pop("no_proxy", None)
        done = launcher.run("up", str(launcher.spec(SPEC)), timeout_s=120)
        yield launcher, done.stdout


def test_up_trains_to_the_end_and_leaves_nothing_alive(shared: tuple[Launcher, str]) -> None:
    launcher, screen = shared
    assert launcher.alive() == []
    assert "test accuracy" in screen.lower()
    assert "[r0" in screen


def test_the_report_has_every_epoch_and_the_curves(shared: tuple[Launcher, str]) -> None:
    launcher, _ = shared
    report = launcher.json("report")
    assert report["state"] == "trained"
    assert report["exit_code"] == 0
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2]
    for epoch in report["epochs"]:
        assert set(epoch) >= {"loss", "accuracy", "val_loss", "val_accuracy", "seconds", "images_per_second"}
    assert report["test_accuracy"] > 0.6
    assert report["test_accuracy"] == report["epochs"][-1]["val_accuracy"]
    assert 0 < report["time_to_first_step_s"] < 60
    folder = Path(report["path"]) / "report"
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(csv.DictReader((folder / "metrics.csv").open()))) == 2
    assert json.loads((folder / "metrics.json").read_text())


def test_status_and_list_tell_the_end(shared: tuple[Launcher, str]) -> None:
    launcher, _ = shared
    (entry,) = launcher.json("list")
    assert set(entry) >= {"run", "path", "state", "started_at"}
    status = launcher.json("status")
    assert status["state"] == "trained"
    assert [(rank["rank"], rank["host"], rank["state"]) for rank in status["ranks"]] == [
        (0, "here", "finished"),
        (1, "here", "finished"),
    ]
    assert {rank["step"] for rank in status["ranks"]} == {2 * 94}


def test_the_model_loads_in_plain_keras_and_scores_what_the_report_says(shared: tuple[Launcher, str]) -> None:
    launcher, _ = shared
    report = launcher.json("report")
    script = (
        "import sys, keras\n"
        "from worker.train.datasets import load\n"
        "arrays = load('fashion-mnist-mini')\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "x = arrays.x_test.astype('float32') / 255\n"
        "predicted = model.predict(x, verbose=0).argmax(1)\n"
        "print('accuracy', (predicted == arrays.y_test).mean())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, report["model"]],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    accuracy = float(done.stdout.split("accuracy")[1])
    assert accuracy == pytest.approx(report["test_accuracy"], abs=1e-6)


def weights(run: Path, step: int) -> dict[str, bytes]:
    """The bytes of every array of the run's checkpoint at a step."""
    import numpy as np

    (folder,) = (run / "hosts/here/checkpoints").glob(f"g*-s{step}")
    with np.load(folder / "arrays.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


def test_a_run_stopped_in_mid_epoch_and_resumed_equals_the_untouched_one(shared: tuple[Launcher, str]) -> None:
    untouched, _ = shared
    with launcher_in(untouched.folder / "again") as launcher:
        up = launcher.start("up", str(launcher.spec(SPEC)), "--plain")
        launcher.wait_event("rank_first_step", count=2, timeout_s=60)
        launcher.run("down")
        assert up.wait(30) == 130
        run = launcher.newest()
        (saved,) = [e for e in launcher.events(run) if e["type"] == "checkpoint"][-1:]
        assert saved["step"] < 2 * 94
        assert launcher.json("status")["state"] == "stopped"
        launcher.run("resume", run.name, timeout_s=120)
        mine, theirs = launcher.json("report"), untouched.json("report")
        assert mine["generations"] == 2
        for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert [e[key] for e in mine["epochs"]] == [e[key] for e in theirs["epochs"]]
        assert weights(run, 2 * 94) == weights(untouched.newest(), 2 * 94)


def test_a_corrupt_checkpoint_is_passed_over_for_the_last_good_one(shared: tuple[Launcher, str]) -> None:
    launcher, _ = shared
    run = launcher.newest()
    folder = run / "hosts/here/checkpoints"
    newest = next(folder.glob("g*-s188"))
    whole = (newest / "arrays.npz").read_bytes()
    (newest / "arrays.npz").write_bytes(whole[: len(whole) // 2])
    try:
        done = launcher.run("resume", run.name, "--set", "train.epochs=3", timeout_s=120)
        assert "passed over" in done.stderr
        assert "g1-s94" in done.stderr
        report = launcher.json("report")
        assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2, 3]
    finally:
        if newest.exists():
            (newest / "arrays.npz").write_bytes(whole)


def test_a_killed_worker_is_the_cause_and_the_survivor_rescues_the_newest_step(launcher: Launcher) -> None:
    long = SPEC.replace("epochs: 2", "epochs: 100") + "restart: {max: 0}\n"
    up = launcher.start("up", str(launcher.spec(long)), "--plain")
    launcher.wait_event("rank_first_step", count=2, timeout_s=60)
    victim = launcher.rank_pids()[0]
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    launcher.wait_event("rank_ended", count=2)
    assert time.monotonic() - killed < 3
    assert up.wait(10) == 1
    screen = (launcher.folder / "command-0.log").read_text()
    assert "rank 0 on here was killed by SIGKILL" in screen
    status = launcher.json("status")
    assert [rank["state"] for rank in status["ranks"]] == ["failed", "rescued"]
    rescued = [e for e in launcher.events(launcher.newest()) if e["type"] == "checkpoint"][-1]
    assert rescued["why"] == "rescue"
    assert rescued["rank"] == 1


def test_a_killed_coordinator_leaves_training_to_its_end_with_a_report(launcher: Launcher) -> None:
    launcher.start("up", str(launcher.spec(SPEC)), "--plain")
    (event,) = launcher.wait_event("coordinator_started", host=None)
    launcher.wait_event("rank_first_step", count=2, timeout_s=60)
    os.kill(event["pid"], signal.SIGKILL)
    launcher.wait_event("agent_left", timeout_s=60)
    wait_for(lambda: not launcher.alive(), "nothing to be alive")
    report = launcher.json("report")
    assert report["state"] == "trained"
    assert report["exit_code"] == 0
    assert report["test_accuracy"] > 0.6
    assert Path(report["model"]).is_file()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(launcher: Launcher) -> None:
    spec = launcher.spec(SPEC.replace("epochs: 2", "epochs: 2, learning_rate: 1.0e+30"))
    done = launcher.run("up", str(spec), check=1, timeout_s=120)
    assert "step" in done.stdout + done.stderr
    assert "not finite" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_file_that_is_wrong_ends_the_run_before_any_training(launcher: Launcher) -> None:
    bad = launcher.folder / "bad.npz"
    bad.write_bytes(b"this is no zip")
    spec = launcher.spec(SPEC.replace("fashion-mnist-mini", f"{{npz: {bad.name}}}"))
    done = launcher.run("up", str(spec), check=3, timeout_s=120)
    screen = done.stdout + done.stderr
    assert str(bad) in screen.replace("\n", "")
    assert launcher.json("status")["state"] == "not fit"
