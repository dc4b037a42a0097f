"""Models and data of the user's own, trained by the pasted line of a plan and by `up`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.contract import checkpoints, records
from worker.contract.states import WorkerExit
from worker.train.checkpoint import Arrays, read

from .harness import ROOT, Launcher
from .training import Cluster, cluster

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


def test_loss_regularizer_and_metrics_are_those_of_one_plain_keras_process(
    tmp_path: Path, path: dict[str, str]
) -> None:
    with cluster(tmp_path, {**JOB, "model": "mine:subclassed"}, env=path) as two:
        plain = in_python(PLAIN, path)
        assert two.wait() == [WorkerExit.DONE] * 2, two[0].log
    for mine, theirs in zip(epochs(two), plain, strict=True):
        for name, value in theirs.items():
            found = mine[name] if name.removeprefix("val_") in ("loss", "accuracy") else mine["metrics"][name]
            assert found == pytest.approx(value, rel=1e-4), name
    assert "same mathematics for any number of workers" in two[0].log
    assert (two[0].folder / "output" / "model.keras").is_file()


def test_statistics_masks_and_counters_are_equal_on_all_workers_and_resumed_bit_for_bit(
    tmp_path: Path, path: dict[str, str]
) -> None:
    job = {**JOB, "model": "mine:split"}
    with cluster(tmp_path, {**job, "epochs": 100_000}, env=path) as broken:
        broken[0].wait_for(records.STEP)
        broken[0].process.kill()
        assert broken[1].wait() == WorkerExit.RESCUED, broken[1].log
    (rescue,) = broken[1].told(records.SAVED)
    step, end = rescue["step"], rescue["epoch"] + 1
    saved = {"every_epochs": None, "every_steps": step, "every_seconds": None}
    with cluster(tmp_path / "whole", {**job, "epochs": end, "checkpoint": saved}, env=path) as whole:
        assert whole.wait() == [WorkerExit.DONE] * 2, whole[0].log
    # Saved by the chief there, by the other worker here.
    held = arrays(broken[1].checkpoints)
    assert same(held, arrays(whole[0].checkpoints, f"g1-s{step}"))
    (count,) = [value for name, value in held.items() if name.endswith(".count")]
    assert count == step
    (seed,) = [value for name, value in held.items() if "seed_generator_state" in name]
    assert seed[1] == step
    start = broken[1].checkpoints / rescue["folder"]
    with cluster(tmp_path, {**job, "epochs": end}, env=path, generation=2, resume=start) as resumed:
        assert resumed.wait() == [WorkerExit.DONE] * 2, resumed[0].log
    assert same(arrays(resumed[0].checkpoints), arrays(whole[0].checkpoints))
    assert epochs(resumed)[-1]["loss"] == epochs(whole)[-1]["loss"]
    assert "another number gives other results" in whole[0].log
    (build,) = [phase for phase in whole[0].told(records.PHASE) if phase["name"] == "build"]
    assert [text.split()[0] for text in build["splits"]] == ["batch_normalization", "counting", "dropout"]


REFUSED = """if True:
    import json, sys, numpy as np, tensorflow as tf
    from types import SimpleNamespace
    from worker.train import userdata
    from worker.train.beside import Beside, study
    from worker.train.errors import TrainError
    from worker.train.userfunction import UserFunction
    from worker.train.usermodel import UserModel
    import mine
    data = UserFunction("mine:data", "train.dataset", "data")
    arrays = userdata.arrays(data, data.call("", {"seed": 3}))
    told = {}
    for name in sys.argv[1:]:
        try:
            UserModel(SimpleNamespace(model=f"mine:{name}", seed=1), arrays)
            told[name] = "nothing"
        except TrainError as error:
            told[name] = f"{error.reason}: {error.message} / {error.hint}"
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
        "one_number": "its loss makes one number of a whole batch",
        "absent": "expected a function `absent` in ",
        "split": "nothing",
        "subclassed": "nothing",
    }
    told = in_python(REFUSED, path, *expected)
    for name, message in expected.items():
        assert message in told[name], name
        assert message == "nothing" or told[name].startswith(f"environment: train.model: mine:{name}: "), told[name]
    assert f"mine.py:{1 + source_line('raise ValueError')}" in told["raises"]
    assert (told["same replica"], told["other replica"], told["seeds"]) == (True, False, True)


def source_line(text: str) -> int:
    lines = Path(__file__).with_name("user_code.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines) if text in line)


SPEC = """name: own
hosts: [{name: here, local: true, workers: 2, gpus: 0}]
train: {model: "mine:split", dataset: "mine:data", epochs: 1, batch_size: 27}
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
