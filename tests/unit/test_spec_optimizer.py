"""What a cluster.yaml may say of Keras's optimizers, schedules, losses and precisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.build import plan
from launcher.spec.model import Named, TrainSpec
from launcher.spec.of_keras import CONSTANT, LearningRate, Loss, OfKeras, Optimizer, Precision
from tests.plan_values import facts
from tests.unit.spec_reading import HERE, problems, read
from worker.contract import names
from worker.contract.keras_names import LOSSES, OPTIMIZERS, PRECISIONS, REFUSED, SCHEDULES, canonical

COSINE = "{name: cosine_decay, initial_learning_rate: 1e-4, decay_steps: 100, warmup_target: 0.01, warmup_steps: 10}"


def train(tmp_path: Path, keys: str) -> TrainSpec:
    found = read(tmp_path, f"name: a\n{HERE}train: {{{keys}}}\n").train
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("optimizer: sgd", TrainSpec(optimizer=Named("sgd"))),
        ("optimizer: AdamW", TrainSpec(optimizer=Named("adamw"))),
        ("optimizer: {name: RMSprop, centered: true}", TrainSpec(optimizer=Named("rmsprop", {"centered": True}))),
        ("learning_rate: 0.01", TrainSpec(learning_rate=0.01)),
        (
            "optimizer: {name: adamw, learning_rate: 0.01, weight_decay: 0, clipnorm: 1}",
            TrainSpec(learning_rate=0.01, optimizer=Named("adamw", {"weight_decay": 0.0, "clipnorm": 1.0})),
        ),
        ("loss: {label_smoothing: 0.1}", TrainSpec(loss=Named("categorical_crossentropy", {"label_smoothing": 0.1}))),
        (
            "loss: {name: categorical_focal_crossentropy, gamma: 3}",
            TrainSpec(loss=Named("categorical_focal_crossentropy", {"gamma": 3.0})),
        ),
        ("precision: mixed_bfloat16", TrainSpec(precision=Named("mixed_bfloat16"))),
        (
            "precision: {name: mixed_float16, initial_scale: 1024, dynamic_growth_steps: 9}",
            TrainSpec(precision=Named("mixed_float16", {"initial_scale": 1024.0, "dynamic_growth_steps": 9})),
        ),
        (
            "learning_rate: {name: PiecewiseConstantDecay, boundaries: [5, 9], values: [1, 0.5, 0.1]}",
            TrainSpec(
                learning_rate=Named("piecewise_constant_decay", {"boundaries": [5, 9], "values": [1.0, 0.5, 0.1]})
            ),
        ),
    ],
)
def test_names_and_settings_of_keras_are_taken(tmp_path: Path, keys: str, expected: TrainSpec) -> None:
    assert train(tmp_path, keys) == expected


@pytest.mark.parametrize("keys", [f"learning_rate: {COSINE}", f"optimizer: {{name: adam, learning_rate: {COSINE}}}"])
def test_a_schedule_stands_wherever_a_learning_rate_may(tmp_path: Path, keys: str) -> None:
    settings = {"initial_learning_rate": 1e-4, "decay_steps": 100, "warmup_target": 0.01, "warmup_steps": 10}
    assert train(tmp_path, keys).learning_rate == Named("cosine_decay", settings)


@pytest.mark.parametrize(
    ("keys", "path", "message", "help_"),
    [
        ("optimizer: addam", "optimizer", "not known", "did you mean `adam`?"),
        ("optimizer: ScheduleFreeAdamW", "optimizer", "not taken here", "other weights"),
        ("optimizer: LossScaleOptimizer", "optimizer", "not taken here", "mixed_float16"),
        ("optimizer: {name: adam, momentun: 1}", "optimizer.momentun", "unknown key", "did you mean `momentum`?"),
        ("optimizer: {name: adam, momentum: 0.9}", "optimizer", "`momentum` is no setting of adam", "sgd, rmsprop"),
        ("optimizer: {name: sgd, momentum: lots}", "optimizer.momentum", "not a number", "from 0 to 1"),
        ("optimizer: {name: sgd, momentum: 9}", "optimizer.momentum", "out of range", "from 0 to 1"),
        ("optimizer: {name: sgd, nesterov: yes}", "optimizer.nesterov", "neither true nor false", "write true"),
        ("optimizer: {clipnorm: 0}", "optimizer.clipnorm", "out of range", "above 0"),
        ("optimizer: {clipnorm: 1, clipvalue: 1}", "optimizer", "gradients are clipped in two ways", "one of"),
        (
            "optimizer: {gradient_accumulation_steps: 2}",
            "optimizer",
            "`gradient_accumulation_steps` is not taken",
            "batch_size",
        ),
        ("optimizer: {use_ema: true}", "optimizer", "`use_ema` is not taken", "other weights"),
        ("learning_rate: -1", "learning_rate", "out of range", "above 0"),
        ("learning_rate: fast", "learning_rate", "not a number", "above 0"),
        ("learning_rate: {name: cosine}", "learning_rate.name", "not known", "cosine_decay"),
        ("learning_rate: {initial_learning_rate: 1}", "learning_rate.name", "missing", "name"),
        (
            "learning_rate: {name: cosine_decay}",
            "learning_rate",
            "cosine_decay needs `initial_learning_rate` and `decay_steps`",
            "",
        ),
        (
            "learning_rate: {name: cosine_decay, initial_learning_rate: 1, decay_steps: 9, warmup_steps: 3}",
            "learning_rate",
            "half a warm-up",
            "both",
        ),
        (
            "learning_rate: {name: piecewise_constant_decay, boundaries: [1], values: [1]}",
            "learning_rate",
            "1 values for 1 boundaries",
            "one value more",
        ),
        (
            "learning_rate: {name: piecewise_constant_decay, boundaries: [2, 1], values: [1, 1, 1]}",
            "learning_rate",
            "boundaries out of order",
            "",
        ),
        (f"learning_rate: 1, optimizer: {{learning_rate: {COSINE}}}", "learning_rate", "given twice", "one of the two"),
        ("loss: mse", "loss", "not known", "categorical_crossentropy"),
        ("loss: {label_smoothing: 2}", "loss.label_smoothing", "out of range", "from 0 to 1"),
        ("precision: bfloat16", "precision", "not known", "did you mean `mixed_bfloat16`?"),
        ("precision: {name: float32, initial_scale: 2}", "precision", "`initial_scale` is no setting of float32", ""),
    ],
)
def test_what_keras_would_not_take_is_refused_with_the_way_out(
    tmp_path: Path, keys: str, path: str, message: str, help_: str
) -> None:
    (problem,) = problems(tmp_path, f"name: a\n{HERE}train: {{{keys}}}\n")
    assert (problem.path, problem.where.rpartition(":")[2]) == (f"train.{path}", "3")
    assert problem.message.startswith(message)
    assert help_ in f"{problem.expected} {problem.hint}"


def test_they_travel_to_the_trainer_as_they_stand_in_the_spec(tmp_path: Path) -> None:
    text = f"learning_rate: {COSINE}, optimizer: {{name: sgd, momentum: 0.9}}, loss: {{label_smoothing: 0.1}}"
    spec = read(tmp_path, f"name: a\n{HERE}train: {{{text}, precision: mixed_float16}}\n")
    told = json.loads(plan(spec, {"here": facts("here")}, run="r").ranks[0].env[names.TRAIN])
    assert told["learning_rate"]["name"] == "cosine_decay"
    assert told["learning_rate"]["warmup_steps"] == 10
    assert told["optimizer"] == {"name": "sgd", "momentum": 0.9}
    assert told["loss"] == {"name": "categorical_crossentropy", "label_smoothing": 0.1}
    assert told["precision"] == "mixed_float16"


@pytest.mark.parametrize(
    ("model", "table"), [(Optimizer, OPTIMIZERS), (LearningRate, SCHEDULES), (Loss, LOSSES), (Precision, PRECISIONS)]
)
def test_the_schema_has_every_setting_of_the_table_and_no_other(model: type[OfKeras], table: dict[str, Any]) -> None:
    settings = {key for taken in table.values() for key in taken.settings}
    assert set(model.model_fields) - {"name", "learning_rate"} == settings
    assert not settings & set(REFUSED)
    assert all(set(taken.needed) <= set(taken.settings) for taken in table.values())
    assert set(model.known) - {CONSTANT} == set(table)


def test_every_spelling_of_keras_leads_to_the_tables_name() -> None:
    for table in (OPTIMIZERS, SCHEDULES, LOSSES):
        for name, taken in table.items():
            assert canonical(taken.cls, table) == canonical(name.upper(), table) == name
    assert canonical("nothing", OPTIMIZERS) == "nothing"
