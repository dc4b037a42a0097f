"""The trainer, run as a pasted line of the plan runs it: two workers, real TensorFlow, real kills."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.contract import checkpoints, names, records
from worker.contract.states import WorkerExit
from worker.train.checkpoint import Arrays, read
from worker.train.datasets import load

from .training import WORKER, Cluster, cluster, free_ports

pytestmark = pytest.mark.tensorflow

IMAGES, TEST_IMAGES = 600, 150
BATCH = 63  # no number of replicas divides it, and the last batch of an epoch has 33
STEPS = 10  # in an epoch
FOREVER = 100_000


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real data set, in a place whose name needs quoting."""
    whole = load("fashion-mnist-mini")
    path = tmp_path_factory.mktemp('it\'s a "place"') / "small.npz"
    np.savez(
        path,
        x_train=whole.x_train[:IMAGES],
        y_train=whole.y_train[:IMAGES],
        x_test=whole.x_test[:TEST_IMAGES],
        y_test=whole.y_test[:TEST_IMAGES],
    )
    return path


@pytest.fixture(scope="session")
def job(data: Path) -> dict[str, Any]:
    return {
        "model": "cnn",
        "dataset": {"kind": "npz", "path": str(data)},
        "epochs": 3,
        "batch_size": BATCH,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "seed": 7,
        "deterministic": True,
        "precision": "float32",
        "communication": "auto",
        "threads": 1,
        "checkpoint": {"every_epochs": 1, "every_steps": None, "every_seconds": None},
    }


def curve(trained: Cluster, rank: int = 0) -> list[tuple[float, ...]]:
    keys = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    return [tuple(record[key] for key in keys) for record in trained[rank].told(records.EPOCH)]


def saved(trained: Cluster, rank: int = 0) -> dict[str, dict[str, Any]]:
    return {record["folder"]: record for record in trained[rank].told(records.SAVED)}


def same(a: Arrays, b: Arrays) -> bool:
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)


def end_of(folder: Path) -> Any:
    """The newest checkpoint below a rank's folder."""
    name = checkpoints.newest(str(folder))
    assert name is not None
    return read(str(folder / name))


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory, job: dict[str, Any]) -> Iterator[Cluster]:
    """Two workers, three epochs, untouched, with a proxy in the environment that leads nowhere."""
    proxies = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "example.org"}
    job = {**job, "checkpoint": {"every_epochs": 1, "every_steps": 7, "every_seconds": None}}
    with cluster(tmp_path_factory.mktemp("two"), job, env=proxies) as trained:
        assert trained.wait() == [WorkerExit.DONE] * 2, trained[0].log
        yield trained


def test_two_workers_tell_phases_steps_epochs_checkpoints_and_the_result(two: Cluster) -> None:
    phases = [record["name"] for record in two[0].told(records.PHASE)]
    assert phases == ["import", "data", "strategy", "build", "restore", "trace", "first_step"]
    steps = two[0].told(records.STEP)
    assert (steps[0]["step"], steps[-1]["step"], steps[-1]["steps"]) == (1, 3 * STEPS, 3 * STEPS)
    assert all(a["t"] <= b["t"] <= a["t"] + 1 for a, b in itertools.pairwise(steps))
    assert [entry[0] for entry in curve(two)] == [1, 2, 3]
    why = {name: record["why"] for name, record in saved(two).items()}
    assert why == {"g1-s7": "every", "g1-s10": "every", "g1-s14": "every", "g1-s20": "every", "g1-s21": "every",
                   "g1-s28": "every", "g1-s30": "end"}  # fmt: skip
    assert saved(two, 1) == {}
    (result,) = two[0].told(records.RESULT)
    assert (result["test_loss"], result["test_accuracy"]) == curve(two)[-1][3:]
    assert two[1].told(records.RESULT) == []
    assert two[0].told(records.FAILURE) == []


def test_both_workers_count_the_same(two: Cluster) -> None:
    assert curve(two, 0) == curve(two, 1)


def test_the_folders_are_for_their_user_alone(two: Cluster) -> None:
    made = [two[0].checkpoints, two[0].folder / "output", *two[0].checkpoints.iterdir()]
    assert {oct(path.stat().st_mode & 0o777) for path in made} == {"0o700"}


def test_one_worker_two_workers_and_four_replicas_learn_the_same(tmp_path: Path, job: dict[str, Any]) -> None:
    # Not with Adam: its first updates have the gradients' signs alone, which the last bit of a float can turn.
    job = {**job, "optimizer": "sgd", "learning_rate": 0.05}
    # Two devices per worker: what GPUs would be, and a batch of 63 in four slots of 16.
    split = (str(Path(__file__).with_name("split_cpu.py")), str(WORKER), "train")
    with (
        cluster(tmp_path / "one", job, workers=1) as one,
        cluster(tmp_path / "two", job) as two,
        cluster(tmp_path / "four", job, line=split) as four,
    ):
        assert one.wait() + two.wait() + four.wait() == [WorkerExit.DONE] * 5, four[0].log
    np.testing.assert_allclose(curve(two), curve(one), rtol=1e-5)
    np.testing.assert_allclose(curve(four), curve(one), rtol=1e-5)
    assert end_of(four[0].checkpoints).state["fingerprint"]["replicas"] == 4


def test_the_saved_model_evaluates_the_same_in_plain_keras(two: Cluster, data: Path) -> None:
    model = two[0].folder / "output" / "model.keras"
    script = """if True:
        import json, sys, keras, numpy as np
        data = np.load(sys.argv[2])
        model = keras.saving.load_model(sys.argv[1])
        print(json.dumps(model.evaluate(data["x_test"] / np.float32(255), data["y_test"], verbose=0)))
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(model), str(data)], capture_output=True, text=True, timeout=60, check=True
    )
    loss, accuracy = json.loads(done.stdout)
    (result,) = two[0].told(records.RESULT)
    assert result["test_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert result["test_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("start", ["g1-s14", "g1-s20"], ids=["mid-epoch", "an epoch's end"])
def test_resumed_from_a_checkpoint_ends_bit_for_bit_as_untouched(
    two: Cluster, tmp_path: Path, job: dict[str, Any], start: str
) -> None:
    with cluster(tmp_path, job, generation=2, resume=two[0].checkpoints / start) as resumed:
        assert resumed.wait() == [WorkerExit.DONE] * 2, resumed[0].log
    whole, again = end_of(two[0].checkpoints), end_of(resumed[0].checkpoints)
    assert same(whole.arrays, again.arrays)
    assert curve(resumed) == curve(two)[int(start.partition("-s")[2]) // STEPS :]
    assert resumed[0].told(records.PHASE)[4].items() >= {"name": "restore", "step": int(start[4:])}.items()
    assert "not bit for bit" not in resumed[0].log


def test_stopped_resumed_killed_rescued_and_resumed_ends_bit_for_bit_as_untouched(
    tmp_path: Path, job: dict[str, Any]
) -> None:
    endless = {**job, "epochs": FOREVER, "checkpoint": {"every_epochs": None, "every_steps": None, "every_seconds": 60}}
    with cluster(tmp_path, endless) as first:
        first[0].wait_for(records.EPOCH, epoch=1)
        first[1].send({"type": "stop"})
        assert first.wait() == [WorkerExit.STOPPED] * 2, first[0].log
    (stop,) = saved(first).values()
    assert stop["why"] == "asked"

    with cluster(tmp_path, endless, generation=2, resume=first[0].checkpoints / stop["folder"]) as second:
        second[0].wait_for(records.EPOCH, epoch=stop["epoch"] + 2)
        second[0].process.kill()
        killed = time.monotonic()
        assert second[1].wait() == WorkerExit.RESCUED
        took = time.monotonic() - killed
    (rescue,) = saved(second, 1).values()
    (failure,) = second[1].told(records.FAILURE)
    assert (rescue["why"], failure["reason"]) == ("rescue", "peer")
    assert took < 6, "under 1 s on an idle machine; 8 s and more would be a heartbeat that was missed"

    epochs = rescue["epoch"] + 1
    finite = {**endless, "epochs": epochs}
    with cluster(tmp_path, finite, generation=3, resume=second[1].checkpoints / rescue["folder"]) as third:
        assert third.wait() == [WorkerExit.DONE] * 2, third[0].log
    with cluster(tmp_path / "untouched", finite) as untouched:
        assert untouched.wait() == [WorkerExit.DONE] * 2, untouched[0].log
    chained, whole = end_of(third[0].checkpoints), end_of(untouched[0].checkpoints)
    assert chained.step == whole.step == epochs * STEPS
    assert same(chained.arrays, whole.arrays)
    scores = [[entry[key] for key in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")]
              for entry in chained.state["history"]]  # fmt: skip
    assert [tuple(score) for score in scores] == curve(untouched)


def test_a_loss_that_is_not_finite_names_its_step_and_saves_nothing(tmp_path: Path, job: dict[str, Any]) -> None:
    with cluster(tmp_path, {**job, "learning_rate": 1e20}) as diverged:
        assert diverged.wait() == [WorkerExit.DIVERGED] * 2, diverged[0].log
    (failure,), (other,) = diverged[0].told(records.FAILURE), diverged[1].told(records.FAILURE)
    assert failure["reason"] == "diverged"
    assert 1 < failure["step"] == other["step"] <= STEPS
    assert f"step {failure['step']} " in failure["message"]
    assert list(diverged[0].checkpoints.iterdir()) == []


def test_workers_with_different_data_refuse_each_other(tmp_path: Path, data: Path, job: dict[str, Any]) -> None:
    arrays = dict(np.load(data))
    arrays["y_train"] = np.roll(arrays["y_train"], 1)
    np.savez(tmp_path / "other.npz", **arrays)
    other = {**job, "dataset": {"kind": "npz", "path": str(tmp_path / "other.npz")}, "workers": 2}
    with cluster(tmp_path, job, of_rank={1: {names.TRAIN: json.dumps(other)}}) as mixed:
        assert mixed.wait() == [WorkerExit.NOT_FIT] * 2
    for rank in mixed.ranks:
        (failure,) = rank.told(records.FAILURE)
        assert failure["reason"] == "cluster"
        assert "rank 1 differs" in failure["message"]
    assert saved(mixed) == saved(mixed, 1) == {}


def test_by_hand_a_signal_stops_and_a_second_one_ends_at_once(tmp_path: Path, job: dict[str, Any]) -> None:
    with cluster(tmp_path, {**job, "epochs": FOREVER}, control=False) as hand:
        hand[0].wait_for(records.STEP, step=1)
        os.kill(hand[1].process.pid, signal.SIGSTOP)  # so that rank 0 waits in a collective
        hand[0].process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        while "asked to stop" not in hand[0].log and time.monotonic() < deadline:
            time.sleep(0.02)
        hand[0].process.send_signal(signal.SIGINT)
        assert hand[0].wait() == 128 + signal.SIGINT
    with cluster(tmp_path / "once", {**job, "epochs": FOREVER}, workers=1, control=False) as alone:
        alone[0].wait_for(records.STEP, step=1)
        alone[0].process.terminate()
        assert alone.wait() == [WorkerExit.STOPPED], alone[0].log
    assert [record["why"] for record in saved(alone).values()][-1] == "asked"


def test_a_port_in_use_is_told_apart_from_all_else(tmp_path: Path, job: dict[str, Any]) -> None:
    (port,) = free_ports(1)
    config = {"cluster": {"worker": [f"127.0.0.1:{port}"]}, "task": {"type": "worker", "index": 0}}
    env = {names.TF_CONFIG: json.dumps(config)}
    with socket.create_server(("", port)), cluster(tmp_path, job, workers=1, env=env) as taken:
        assert taken.wait() == [WorkerExit.PORT_TAKEN], taken[0].log
    (failure,) = taken[0].told(records.FAILURE)
    assert failure["reason"] == "port"
    assert str(port) in failure["message"]


def test_a_corrupt_checkpoint_is_refused_by_name(two: Cluster, tmp_path: Path, job: dict[str, Any]) -> None:
    name = "g1-s20"
    broken = tmp_path / name
    broken.mkdir()
    for file in (two[0].checkpoints / name).iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[:-100] if file.name == checkpoints.ARRAYS else content)
    with cluster(tmp_path, job, workers=1, generation=2, resume=broken) as refused:
        assert refused.wait() == [WorkerExit.NOT_FIT]
    (failure,) = refused[0].told(records.FAILURE)
    assert failure["reason"] == "data"
    assert str(broken / checkpoints.ARRAYS) in failure["message"]
    assert "Traceback" not in refused[0].log
