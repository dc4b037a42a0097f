"""What a rank is told is checked before TensorFlow is loaded; what does not fit the plan is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from worker.contract import names, records
from worker.contract.states import WorkerExit
from worker.train.errors import TrainError
from worker.train.settings import from_environment

ROOT = Path(__file__).parents[2]
WORKERS = ["10.0.0.1:20000", "[fd00::2]:20001"]
JOB: dict[str, Any] = {
    "model": "cnn",
    "dataset": {"kind": "npz", "path": '/data/it\'s "here".npz'},
    "epochs": 5,
    "batch_size": 64,
    "learning_rate": 0.001,
    "optimizer": "adam",
    "seed": 0,
    "deterministic": True,
    "precision": "float32",
    "communication": "auto",
    "threads": 1,
    "workers": 2,
    "checkpoint": {"every_epochs": 1, "every_steps": None, "every_seconds": 600},
}


def environment(
    job: Mapping[str, Any] | None = None, config: Any = None, changed: Mapping[str, str] | None = None
) -> dict[str, str]:
    return {
        names.TF_CONFIG: json.dumps(config or {"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": 1}}),
        names.TRAIN: json.dumps({**JOB, **(job or {})}),
        names.RANK: "1",
        names.WORLD_SIZE: "2",
        names.GENERATION: "3",
        names.CHECKPOINT_DIR: "/run/checkpoints",
        names.OUTPUT_DIR: "/run/output",
        names.PROGRESS_FILE: "/run/progress.jsonl",
        names.RESUME_DIR: "",
        **(changed or {}),
    }


@pytest.mark.parametrize(
    ("rank", "said", "saves"), [(0, False, True), (1, None, False), (1, False, False), (1, True, True)]
)
def test_the_chief_saves_and_whoever_the_plan_says(rank: int, said: bool | None, saves: bool) -> None:
    config = {"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": rank}}
    checkpoint = {**JOB["checkpoint"], **({} if said is None else {"saves": said})}
    env = environment({"checkpoint": checkpoint}, config, {names.RANK: str(rank)})
    assert from_environment(env).saves == saves


def test_a_whole_environment_is_read() -> None:
    settings = from_environment(environment())
    assert (settings.rank, settings.generation, settings.chief, settings.control_fd) == (1, 3, False, None)
    assert settings.workers == tuple(WORKERS)
    assert settings.hosts == ("10.0.0.1", "fd00::2")
    assert settings.job.dataset_path == JOB["dataset"]["path"]
    assert from_environment(environment(changed={names.CONTROL_FD: "7"})).control_fd == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", True),
        ("batch_size", 1.5),
        ("batch_size", None),
        ("learning_rate", -1),
        ("learning_rate", "0.1"),
        ("seed", 2**32),
        ("deterministic", 1),
        ("optimizer", "no-such"),
        ("communication", "smoke"),
        ("threads", 0),
        ("dataset", "mnist"),
        ("checkpoint", None),
        ("checkpoint", {"every_epochs": 0}),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: Any) -> None:
    with pytest.raises(TrainError, match=rf"{names.TRAIN}: {name}") as error:
        from_environment(environment({name: value}))
    assert error.value.reason == "environment"
    assert error.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in (names.TF_CONFIG, names.TRAIN) for value in ("", "{", "[" * 100_000, "-1")),
        *((name, value) for name in (names.RANK, names.GENERATION) for value in ("", "-1", "x", "9" * 5000)),
        (names.PROGRESS_FILE, ""),
    ],
    ids=lambda text: text[:20] or "empty",
)
def test_an_unusable_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(TrainError, match=name):
        from_environment(environment(changed={name: value}))


def task(index: Any = 1, type_: str = "worker") -> dict[str, Any]:
    return {"type": type_, "index": index}


CLUSTERS: dict[str, Any] = {
    "empty": {"cluster": {}, "task": task()},
    "no task": {"cluster": {"worker": WORKERS}},
    "too few workers": {"cluster": {"worker": WORKERS[:1]}, "task": task(0)},
    "too many workers": {"cluster": {"worker": [*WORKERS, "c:1"]}, "task": task()},
    "another rank": {"cluster": {"worker": WORKERS}, "task": task(0)},
    "another job": {"cluster": {"worker": WORKERS}, "task": task(type_="chief")},
    "one more job": {"cluster": {"worker": WORKERS, "chief": ["d:1"]}, "task": task()},
    "a worker twice": {"cluster": {"worker": [WORKERS[0]] * 2}, "task": task()},
    "no ports": {"cluster": {"worker": ["a", "b"]}, "task": task()},
}


@pytest.mark.parametrize("config", CLUSTERS.values(), ids=CLUSTERS)
def test_a_cluster_that_is_not_the_plans_is_refused(config: Any) -> None:
    with pytest.raises(TrainError) as error:
        from_environment(environment(config=config))
    assert error.value.reason == "cluster"


def test_a_plan_of_another_size_is_refused() -> None:
    with pytest.raises(TrainError, match="2 workers, LAUNCHER_WORLD_SIZE says 2 and the plan 3") as error:
        from_environment(environment({"workers": 3}))
    assert error.value.reason == "cluster"


def test_the_trainer_refuses_a_wrong_cluster_at_once_and_says_so_in_its_progress_file(tmp_path: Path) -> None:
    progress = tmp_path / "progress.jsonl"
    (tmp_path / "tensorflow.py").write_text("print('TensorFlow was loaded for nothing')")
    env = environment(changed={names.WORLD_SIZE: "3", names.PROGRESS_FILE: str(progress), "PYTHONPATH": str(tmp_path)})
    done = subprocess.run(
        [sys.executable, str(ROOT / "worker"), "train"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == WorkerExit.NOT_FIT
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "LAUNCHER_WORLD_SIZE says 3" in done.stderr
    (failure,) = records.parse(progress.read_bytes())[0]
    assert (failure["type"], failure["reason"]) == (records.FAILURE, "cluster")
