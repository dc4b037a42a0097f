"""Optimizers, schedules, losses and precisions of Keras over two workers, against Keras in one plain process."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.contract import records
from worker.contract.states import WorkerExit
from worker.train.checkpoint import read
from worker.train.datasets import load

from .training import Cluster, cluster

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).parents[2]
IMAGES, TEST_IMAGES = 300, 100
BATCH, STEPS = 63, 5  # in an epoch; the last batch has 48 images
SEED = 7
RATE = {
    "name": "cosine_decay",
    "initial_learning_rate": 0.0001,
    "warmup_target": 0.01,
    "warmup_steps": 3,
    "decay_steps": 12,
}
# A large epsilon: with a small one, Adam's first updates are the signs of gradients, which the last bit can turn.
ADAMW = {"name": "adamw", "weight_decay": 0.02, "epsilon": 0.001, "global_clipnorm": 0.1}
SMOOTHED = {"name": "categorical_crossentropy", "label_smoothing": 0.1}

# What a person would write in plain Keras, but for the order of images. Prints how the saved models score.
PLAIN = """
import json, sys
import keras, numpy as np
from worker.train.order import permutation

out, (data, trained, *models), seed, batch = sys.argv[1], sys.argv[2:-2], int(sys.argv[-2]), int(sys.argv[-1])
data = np.load(data)
scale = lambda images: images.astype("float32") / np.float32(255)
x, y = scale(data["x_train"]), keras.utils.to_categorical(data["y_train"], 10)
x_test, y_test = scale(data["x_test"]), keras.utils.to_categorical(data["y_test"], 10)

untrained = keras.saving.load_model(trained, compile=False)
keras.utils.set_random_seed(seed)
model = keras.models.clone_model(untrained)
model.compile(
    optimizer=keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(0.0001, 12, warmup_target=0.01, warmup_steps=3),
        weight_decay=0.02, epsilon=0.001, global_clipnorm=0.1,
    ),
    loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
)
for epoch in (1, 2):
    order = permutation(seed, epoch, len(x))
    for start in range(0, len(x), batch):
        index = order[start : start + batch]
        model.train_on_batch(x[index], y[index])
np.savez(out, *[np.asarray(weight) for weight in model.weights])

scores = []
for path in (trained, *models):
    loaded = keras.saving.load_model(path)
    sparse = isinstance(loaded.loss, keras.losses.SparseCategoricalCrossentropy)
    scores.append(loaded.evaluate(x_test, data["y_test"] if sparse else y_test, verbose=0))
print(json.dumps(scores))
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    whole = load("fashion-mnist-mini")
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(
        path,
        x_train=whole.x_train[:IMAGES],
        y_train=whole.y_train[:IMAGES],
        x_test=whole.x_test[:TEST_IMAGES],
        y_test=whole.y_test[:TEST_IMAGES],
    )
    return {
        "model": "cnn",
        "dataset": {"kind": "npz", "path": str(path)},
        "epochs": 2,
        "batch_size": BATCH,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "loss": None,
        "seed": SEED,
        "deterministic": True,
        "precision": "float32",
        "communication": "auto",
        "threads": 1,
        "checkpoint": {"every_epochs": None, "every_steps": 3, "every_seconds": None},
    }


@pytest.fixture(scope="module")
def adamw(job: dict[str, Any]) -> dict[str, Any]:
    return {**job, "learning_rate": RATE, "optimizer": ADAMW, "loss": SMOOTHED}


def trained(folder: Path, job: dict[str, Any], **more: Any) -> Iterator[Cluster]:
    with cluster(folder, job, **more) as made:
        assert made.wait() == [WorkerExit.DONE] * len(made.ranks), made[0].log
        yield made


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, adamw: dict[str, Any]) -> Iterator[Cluster]:
    yield from trained(tmp_path_factory.mktemp("two"), adamw)


@pytest.fixture(scope="module")
def bfloat16(tmp_path_factory: pytest.TempPathFactory, job: dict[str, Any]) -> Iterator[Cluster]:
    yield from trained(tmp_path_factory.mktemp("bfloat16"), {**job, "precision": "mixed_bfloat16"}, workers=1)


@pytest.fixture(scope="module")
def float16(tmp_path_factory: pytest.TempPathFactory, job: dict[str, Any]) -> Iterator[Cluster]:
    """The loss is multiplied with 2^22 at first: gradients overflow float16 until that has been halved a few times."""
    scaled = {"name": "mixed_float16", "initial_scale": 2.0**22, "dynamic_growth_steps": 3}
    yield from trained(tmp_path_factory.mktemp("float16"), {**job, "epochs": 4, "precision": scaled})


def arrays(cluster: Cluster, step: int) -> dict[str, Any]:
    """Of the checkpoint of a step, by name."""
    (path,) = cluster[0].checkpoints.glob(f"g*-s{step}")
    return dict(read(str(path)).arrays)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return list(a) == list(b) and all(a[key].tobytes() == b[key].tobytes() for key in a)


def weights(of: dict[str, Any]) -> list[Any]:
    return [of[key] for key in sorted(of, key=_place) if key.startswith("model/")]


def _place(name: str) -> tuple[int, int]:
    _, layer, variable = name.split("/") if name.startswith("model/") else ("", "0", "0.")
    return int(layer), int(variable.partition(".")[0])


@pytest.fixture(scope="module")
def plain(
    two: Cluster, bfloat16: Cluster, adamw: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Any], list[list[float]]]:
    """The weights that one plain process ends with, and how it scores the models that were saved."""
    folder = tmp_path_factory.mktemp("plain")
    out = folder / "plain.npz"
    models = [str(made[0].folder / "output" / "model.keras") for made in (two, bfloat16)]
    script = folder / "plain.py"
    script.write_text(PLAIN)
    line = [sys.executable, str(script), str(out), adamw["dataset"]["path"], *models, str(SEED), str(BATCH)]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=90, check=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
    )
    with np.load(out) as found:
        return [found[name] for name in found.files], json.loads(done.stdout.splitlines()[-1])


def test_adamw_with_warm_up_clipping_and_smoothing_over_two_workers_is_what_one_plain_process_does(
    two: Cluster, plain: tuple[list[Any], list[list[float]]]
) -> None:
    ours, theirs = weights(arrays(two, 2 * STEPS)), plain[0]
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def test_its_checkpoints_hold_every_slot_and_resume_bit_for_bit_in_mid_epoch(
    two: Cluster, adamw: dict[str, Any], tmp_path: Path
) -> None:
    names = [name for name in arrays(two, 3) if name.startswith("optimizer/")]
    assert len(names) == 1 + 2 * len(weights(arrays(two, 3)))  # the count of updates; two moments for each weight
    assert arrays(two, 3)["optimizer/0"] == 3
    with cluster(tmp_path, adamw, generation=2, resume=two[0].checkpoints / "g1-s3") as resumed:
        assert resumed.wait() == [WorkerExit.DONE] * 2, resumed[0].log
    assert same(arrays(resumed, 2 * STEPS), arrays(two, 2 * STEPS))


def test_saved_models_score_the_same_in_plain_keras(
    two: Cluster, bfloat16: Cluster, plain: tuple[list[Any], list[list[float]]]
) -> None:
    for made, (loss, accuracy) in zip((two, bfloat16), plain[1], strict=True):
        (result,) = made[0].told(records.RESULT)
        assert result["test_loss"] == pytest.approx(loss, rel=0.01 if made is bfloat16 else 1e-5)
        assert result["test_accuracy"] == pytest.approx(accuracy, abs=0.0101 if made is bfloat16 else 1e-6)


def test_the_precision_and_its_way_are_in_the_fingerprint(bfloat16: Cluster, two: Cluster) -> None:
    said = [read(str(made[0].checkpoints / "g1-s3")).state["fingerprint"]["precision"] for made in (bfloat16, two)]
    assert said[0] in ("mixed_bfloat16", "float32 for mixed_bfloat16")
    assert said[1] == "float32"
    assert ("no bfloat16 instructions" in bfloat16[0].log) == said[0].startswith("float32")


def test_an_overflow_in_float16_halves_the_scale_on_all_workers_alike_and_training_goes_on(float16: Cluster) -> None:
    last = arrays(float16, 4 * STEPS)
    updates = int(last["optimizer/0"])
    passed_over = 4 * STEPS - updates
    assert passed_over >= 2
    first = arrays(float16, 3)
    assert first["optimizer/0"] == 3 - math.log2(2.0**22 / first["loss_scale/scale"])
    assert math.log2(last["loss_scale/scale"]).is_integer()
    assert last["loss_scale/whole_steps"] < 3
    assert all(np.isfinite(value).all() for value in last.values())
    assert all(value.dtype != np.float16 for value in last.values())
    told = [[(e["loss"], e["val_loss"]) for e in rank.told(records.EPOCH)] for rank in float16.ranks]
    assert told[0] == told[1]
    assert told[0][-1][1] < told[0][0][1]


def test_the_scale_of_the_loss_is_part_of_a_checkpoint(float16: Cluster, job: dict[str, Any], tmp_path: Path) -> None:
    scaled = {"name": "mixed_float16", "initial_scale": 2.0**22, "dynamic_growth_steps": 3}
    again = {**job, "epochs": 4, "precision": scaled}
    with cluster(tmp_path, again, generation=2, resume=float16[0].checkpoints / "g1-s3") as resumed:
        assert resumed.wait() == [WorkerExit.DONE] * 2, resumed[0].log
    assert same(arrays(resumed, 4 * STEPS), arrays(float16, 4 * STEPS))


def test_a_setting_that_keras_does_not_have_is_refused_with_those_that_it_has(
    tmp_path: Path, job: dict[str, Any]
) -> None:
    with cluster(tmp_path, {**job, "optimizer": {"name": "sgd", "beta_1": 0.9}}, workers=1) as refused:
        assert refused.wait() == [WorkerExit.NOT_FIT]
    (failure,) = refused[0].told(records.FAILURE)
    assert failure["message"].startswith("sgd of Keras ")
    assert failure["message"].endswith("has no setting `beta_1`")
    assert "momentum, nesterov, weight_decay" in failure["hint"]


def test_the_table_of_settings_is_what_keras_has() -> None:
    """What a newer Keras adds is not a fault; what the spec takes and Keras does not have is."""
    script = """if True:
        import inspect, json, keras
        from worker.contract.keras_names import LOSSES, OPTIMIZERS, REFUSED, SCHEDULES
        wrong = []
        for module, table in ((keras.optimizers, OPTIMIZERS), (keras.optimizers.schedules, SCHEDULES),
                              (keras.losses, LOSSES)):
            for name, taken in table.items():
                known = inspect.signature(getattr(module, taken.cls)).parameters
                wrong += [f"{name}.{key}" for key in taken.settings if key not in known]
                wrong += [f"{name} needs {key}" for key, one in known.items()
                          if one.default is one.empty and key not in (*taken.needed, "kwargs")]
        known = inspect.signature(keras.optimizers.Adam).parameters
        print(json.dumps([*wrong, *(key for key in REFUSED if key not in known)]))
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=90, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == []
