"""Models and data of the user's own, trained by the pasted line of a plan and by `up`."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.contract import checkpoints, records
from worker.contract.states import WorkerExit
from worker.train.checkpoint import Arrays, read

from .harness import ROOT, Launcher
from .training import WORKER, Cluster, cluster

pytestmark = pytest.mark.tensorflow

BATCH, STEPS = 27, 4  # of 103 examples: the last batch has 22
JOB: dict[str, Any] = {
    "dataset": {"kind": "function", "path": None, "function": "mine:data"},
    "epochs": 2,
    "batch_size": BATCH,
    "learning_rate": 0.05,
    "optimizer": "sgd",
    "seed": 7,
    "deterministic": True,
    "precision": "float32",
    "communication": "auto",
    "threads": 1,
    "checkpoint": {"every_epochs": None, "every_steps": None, "every_seconds": None},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which `mine` can be imported."""
    folder = tmp_path_factory.mktemp("the user's")
    shutil.copyfile(Path(__file__).with_name("user_code.py"), folder / "mine.py")
    return {"PYTHONPATH": str(folder)}


def in_python(script: str, env: dict[str, str], *arguments: str) -> Any:
    """What a plain process prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": f"{env['PYTHONPATH']}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def arrays(folder: Path, name: str | None = None) -> Arrays:
    name = name or checkpoints.newest(str(folder))
    assert name is not None
    return dict(read(str(folder / name)).arrays)


def same(a: Arrays, b: Arrays) -> bool:
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)


def epochs(trained: Cluster) -> list[dict[str, Any]]:
    return trained[0].told(records.EPOCH)


PLAIN = """if True:
    import json, keras, mine, numpy as np
    from worker.train.order import permutation
    data = mine.data(7)
    keras.utils.set_random_seed(7)
    model = mine.subclassed()
    model(np.zeros((1, 6), np.float32))
    compiled = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "metrics": ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")]}
    model.compile(optimizer=keras.optimizers.SGD(0.05), **compiled)
    told = []
    for epoch in (1, 2):
        order = permutation(7, epoch, 103)
        history = model.fit(data["x_train"][order], data["y_train"][order], batch_size=27, shuffle=False, verbose=0,
                            validation_data=(data["x_test"], data["y_test"]))
        told.append({name: values[-1] for name, values in history.history.items()})
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, path: dict[str, str]) -> Iterator[Cluster]:
    """Two workers, untouched, with a subclassed model and arrays."""
    with cluster(tmp_path_factory.mktemp("two"), {**JOB, "model": "mine:subclassed"}, env=path) as trained:
        assert trained.wait() == [WorkerExit.DONE] * 2, trained[0].log
        yield trained


def test_loss_regularizer_and_metrics_are_those_of_one_plain_keras_process(two: Cluster, path: dict[str, str]) -> None:
    plain = in_python(PLAIN, path)
    for mine, theirs in zip(epochs(two), plain, strict=True):
        for name, value in theirs.items():
            found = mine[name] if name.removeprefix("val_") in ("loss", "accuracy") else mine["metrics"][name]
            assert found == pytest.approx(value, rel=1e-4), name
    assert "same mathematics for any number of workers" in two[0].log
    assert (two[0].folder / "output" / "model.keras").is_file()


def killed_in_mid_epoch(folder: Path, job: dict[str, Any], path: dict[str, str], steps: int) -> Cluster:
    """Two workers of which the chief was killed at a random moment, within an epoch and not between two."""
    for seed in itertools.count(20):
        with cluster(folder / str(seed), {**job, "epochs": 100_000}, env=path) as broken:
            broken[0].wait_for(records.STEP)
            time.sleep(random.Random(seed).uniform(0.0, 1.0))
            broken[0].process.kill()
            assert broken[1].wait() == WorkerExit.RESCUED, broken[1].log
        (rescue,) = broken[1].told(records.SAVED)
        if rescue["step"] % steps:
            return broken
    raise AssertionError("unreachable")


def test_statistics_masks_counters_and_metrics_are_equal_on_all_workers_and_resumed_bit_for_bit(
    tmp_path: Path, path: dict[str, str]
) -> None:
    job = {**JOB, "model": "mine:measured", "batch_size": 3}
    broken = killed_in_mid_epoch(tmp_path, job, path, steps=35)
    (rescue,) = broken[1].told(records.SAVED)
    step, end = rescue["step"], rescue["epoch"] + 1
    saved = {"every_epochs": None, "every_steps": step, "every_seconds": None}
    with cluster(tmp_path / "whole", {**job, "epochs": end, "checkpoint": saved}, env=path) as whole:
        assert whole.wait() == [WorkerExit.DONE] * 2, whole[0].log
    # Saved by the chief there, by the other worker here.
    held = arrays(broken[1].checkpoints)
    assert same(held, arrays(whole[0].checkpoints, f"g1-s{step}"))
    assert {"epoch/metrics/0", "epoch/metrics/3"} <= set(held)
    (count,) = [value for name, value in held.items() if name.endswith(".count")]
    assert count == step
    (seed,) = [value for name, value in held.items() if "seed_generator_state" in name]
    assert seed[1] == step
    start = broken[1].checkpoints / rescue["folder"]
    with cluster(tmp_path, {**job, "epochs": end}, env=path, generation=2, resume=start) as resumed:
        assert resumed.wait() == [WorkerExit.DONE] * 2, resumed[0].log
    assert same(arrays(resumed[0].checkpoints), arrays(whole[0].checkpoints))
    for again, once in zip(epochs(resumed), epochs(whole)[rescue["epoch"] - 1 :], strict=True):
        assert [again[key] for key in ("loss", "metrics")] == [once[key] for key in ("loss", "metrics")]
    assert set(epochs(whole)[-1]["metrics"]) == {"accuracy", "top2", "val_accuracy", "val_top2"}
    assert "another number gives other results" in whole[0].log
    (build,) = [phase for phase in whole[0].told(records.PHASE) if phase["name"] == "build"]
    assert [text.split()[0] for text in build["splits"]] == ["batch_normalization", "counting", "dropout"]


def test_pipelines_give_the_bits_of_arrays_and_are_resumed_in_mid_epoch(
    two: Cluster, tmp_path: Path, path: dict[str, str]
) -> None:
    dataset = {"kind": "function", "path": None, "function": "mine:stream"}
    saved = {"every_epochs": None, "every_steps": STEPS + 2, "every_seconds": None}
    job = {**JOB, "model": "mine:subclassed", "dataset": dataset, "checkpoint": saved}
    with cluster(tmp_path, job, env=path) as streamed:
        assert streamed.wait() == [WorkerExit.DONE] * 2, streamed[0].log
    start = streamed[0].checkpoints / f"g1-s{STEPS + 2}"
    with cluster(tmp_path, job, env=path, generation=2, resume=start) as resumed:
        assert resumed.wait() == [WorkerExit.DONE] * 2, resumed[0].log
    assert same(arrays(streamed[0].checkpoints), arrays(two[0].checkpoints))
    assert same(arrays(resumed[0].checkpoints), arrays(two[0].checkpoints))
    assert [epoch["val_loss"] for epoch in epochs(streamed)] == [epoch["val_loss"] for epoch in epochs(two)]


def test_pipelines_without_an_order_are_shuffled_alike_on_every_run_and_split_over_replicas(
    tmp_path: Path, path: dict[str, str]
) -> None:
    dataset = {"kind": "function", "path": None, "function": "mine:Shuffled"}
    saved = {"every_epochs": None, "every_steps": STEPS - 1, "every_seconds": None}
    job = {**JOB, "model": "mine:subclassed", "dataset": dataset, "checkpoint": saved}
    split = (str(Path(__file__).with_name("split_cpu.py")), str(WORKER), "train")
    with (
        cluster(tmp_path / "one", job, env=path, workers=1) as one,
        cluster(tmp_path / "split", job, env=path, workers=1, line=split) as two_devices,
    ):
        assert [*one.wait(), *two_devices.wait()] == [WorkerExit.DONE] * 2, two_devices[0].log
    start = two_devices[0].checkpoints / f"g1-s{STEPS - 1}"
    with cluster(tmp_path, job, env=path, workers=1, generation=2, resume=start, line=split) as resumed:
        assert resumed.wait() == [WorkerExit.DONE], resumed[0].log
    assert same(arrays(resumed[0].checkpoints), arrays(two_devices[0].checkpoints))
    for a, b in zip(epochs(one), epochs(two_devices), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["val_loss"] == pytest.approx(a["val_loss"], rel=1e-5)
    first, second = (epoch["loss"] for epoch in epochs(one))
    assert second < first
    assert "shuffled through a buffer of 10000 elements" in one[0].log


REFUSED = """if True:
    import json, sys, keras, numpy as np, tensorflow as tf
    from types import SimpleNamespace
    from worker.train import stream, userdata
    from worker.train.beside import Beside, study
    from worker.train.errors import TrainError
    from worker.train.objective import Share
    from worker.train.settings import Named
    from worker.train.userfunction import UserFunction
    from worker.train.usermodel import UserModel
    import mine
    data = UserFunction("mine:data", "train.dataset", "data")
    arrays = userdata.arrays(data, data.call("", {"seed": 3}))
    told = {}
    for name in ("batched", "endless"):
        function = UserFunction(f"mine:{name}", "train.dataset", "data")
        try:
            stream.factory(function, function.call("", {}), 1)
        except TrainError as error:
            told[name] = error.message
    for name in sys.argv[1:]:
        try:
            loss = Named("categorical_crossentropy", {"label_smoothing": 0.5}) if "spec" in name else None
            UserModel(SimpleNamespace(model=f"mine:{name}", seed=1, loss=loss), arrays)
            told[name] = "nothing"
        except TrainError as error:
            told[name] = f"{error.reason}: {error.message} / {error.hint}"
    x, y = arrays.x_train[:5], arrays.y_train[:5]
    smoothed = Named("categorical_crossentropy", {"label_smoothing": 0.5})
    told["losses"] = []
    for name, from_logits in (("unsavable", True), ("split", False)):
        model = UserModel(SimpleNamespace(model=f"mine:{name}", seed=1, loss=smoothed), arrays)
        net, _ = model.build()
        outputs = net(x)
        share = Share(tf.constant(y), outputs, tf.constant([1.0, 1, 1, 1, 0]), 4, 4, 1)
        keras_loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits, label_smoothing=0.5, reduction="sum")
        told["losses"].append([float(model.objective.total(net, share)),
                               float(keras_loss(keras.ops.one_hot(y[:4], 3), outputs[:4]))])
        saved = model.to_save([v.numpy() for v in net.weights], keras.optimizers.SGD())
        told["losses"].append([saved.loss.label_smoothing, 0.5])
    net = mine.split((6,), 3)
    beside = Beside(net, study(net, arrays.x_train[:4])[0])
    outputs, seeds = [], []
    for replica in (0, 1, 0):
        with beside.scope(replica) as scope:
            outputs.append(net(arrays.x_train[:50], training=True).numpy())
        seeds.append(beside.changed(scope, replica, 50).seeds[0].numpy().tolist())
    told["same replica"] = bool((outputs[0] == outputs[2]).all())
    told["other replica"] = bool((outputs[0] == outputs[1]).all())
    told["seeds"] = seeds[0] == seeds[1] == seeds[2] and seeds[0][1] == 1
    print(json.dumps(told))
"""


def test_what_cannot_be_trained_is_refused_by_name_and_replicas_draw_apart(path: dict[str, str]) -> None:
    expected = {
        "raises": "it raised ValueError: no such at ",
        "returns_text": "expected a Keras 3 model, it returned builtins.str",
        "two_outputs": "expected a model with one output per image",
        "own_step": "the model has its own train_step",
        "no_sum": "the metric largest keeps a state that is no sum",
        "unseeded": "random numbers drawn without a seed",
        "too_few": "not compiled with a loss, and the usual one needs classes: targets are numbers from 0 to 2",
        "own_loss_and_the_specs": "with a loss of its own, and `train.loss` says categorical_crossentropy, too",
        "one_number": "its loss makes one number of a whole batch",
        "absent": "expected a function `absent` in ",
        "split": "nothing",
        "subclassed": "nothing",
    }
    told = in_python(REFUSED, path, *expected)
    for name, message in expected.items():
        assert message in told[name], name
        assert message == "nothing" or told[name].startswith(f"environment: train.model: mine:{name}: "), told[name]
    for mine, theirs in told["losses"]:
        assert mine == pytest.approx(theirs, rel=1e-5)
    assert "drop one of the two" in told["own_loss_and_the_specs"]
    assert "expected `train` to have elements (x, y) of a known shape" in told["batched"]
    assert "expected to know how many elements `train` has, found no end of them" in told["endless"]
    assert f"mine.py:{1 + source_line('raise ValueError')}" in told["raises"]
    assert (told["same replica"], told["other replica"], told["seeds"]) == (True, False, True)


def source_line(text: str) -> int:
    lines = Path(__file__).with_name("user_code.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines) if text in line)


SPEC = """name: own
hosts: [{name: here, local: true, workers: 2, gpus: 0}]
train: {model: "mine:split", dataset: "mine:data", epochs: 1, batch_size: 27, loss: {label_smoothing: 0.1}}
"""


def test_up_brings_the_users_folder_and_tells_where_a_function_fails(launcher: Launcher) -> None:
    folder = launcher.folder / "a job's"
    folder.mkdir()
    code = Path(__file__).with_name("user_code.py").read_text()
    (folder / "mine.py").write_text(code)
    (folder / "cluster.yaml").write_text(SPEC)
    launcher.run("up", str(folder / "cluster.yaml"), timeout_s=120)
    (epoch,) = launcher.json("report")["epochs"]
    assert np.isfinite(epoch["loss"])
    (folder / "mine.py").write_text(code + "\n\nimport missing_package\n")
    done = launcher.run("up", str(folder / "cluster.yaml"), timeout_s=120, check=3)
    screen = " ".join((done.stdout + done.stderr).split())
    assert "train.dataset: mine:data: importing `mine` failed: ModuleNotFoundError" in screen
    assert f"mine.py:{len(code.splitlines()) + 3}" in screen
    assert "Traceback" not in screen
