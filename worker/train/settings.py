"""What one rank is told: environment → one frozen, checked value. Standard library only."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..contract import names
from ..contract.keras_names import LOSSES, OPTIMIZERS, PRECISIONS, SCHEDULES, Taken
from .errors import TrainError

COMMUNICATIONS = ("auto", "ring", "nccl")
MAX_SEED = 2**32 - 1  # what RandomState and Keras take


@dataclass(frozen=True)
class Every:
    """When state is saved, besides the end and a stop; None: never for that reason."""

    epochs: int | None
    steps: int | None
    seconds: float | None


@dataclass(frozen=True)
class Named:
    """Something of Keras by its name in `contract.keras_names`, with settings: numbers, truths, lists of numbers."""

    name: str
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, **self.settings}


@dataclass(frozen=True)
class Job:
    """What is trained: LAUNCHER_TRAIN. `batch_size` is global."""

    model: str
    dataset: str
    dataset_path: str | None
    dataset_function: str | None
    epochs: int
    batch_size: int
    learning_rate: float | Named  # Named: a schedule
    optimizer: Named
    loss: Named | None  # None: what fits the model
    seed: int
    deterministic: bool
    precision: Named
    communication: str
    threads: int | None
    workers: int
    every: Every
    saves: bool  # whether this rank, if it is not the chief, saves what the chief saves


@dataclass(frozen=True)
class Settings:
    """A rank's place in the cluster and its folders. `workers` is the whole cluster's addresses, in rank order."""

    job: Job
    rank: int
    generation: int
    workers: tuple[str, ...]
    checkpoints: str
    output: str
    progress: str
    resume: str  # a checkpoint's folder, or empty
    control_fd: int | None

    @property
    def chief(self) -> bool:
        return self.rank == 0

    @property
    def saves(self) -> bool:
        return self.chief or self.job.saves

    @property
    def hosts(self) -> tuple[str, ...]:
        """The workers' addresses without their ports."""
        return tuple(dict.fromkeys(worker.rpartition(":")[0].strip("[]") for worker in self.workers))


def from_environment(env: Mapping[str, str]) -> Settings:
    """Read and check the environment. Raises TrainError (reason `environment` or `cluster`)."""
    job = _job(_json(env, names.TRAIN))
    rank = _number(env, names.RANK, 0)
    size = _number(env, names.WORLD_SIZE, 1)
    control = env.get(names.CONTROL_FD, "")
    return Settings(
        job=job,
        rank=rank,
        generation=_number(env, names.GENERATION, 1),
        workers=_cluster(_json(env, names.TF_CONFIG), rank, size, job.workers),
        checkpoints=_text(env, names.CHECKPOINT_DIR),
        output=_text(env, names.OUTPUT_DIR),
        progress=_text(env, names.PROGRESS_FILE),
        resume=env.get(names.RESUME_DIR, ""),
        control_fd=_number(env, names.CONTROL_FD, 0) if control else None,
    )


def make_folders(settings: Settings) -> None:
    """Make the folders that this rank writes to, for its user alone. Raises TrainError."""
    for folder in (settings.checkpoints, settings.output, os.path.dirname(os.path.abspath(settings.progress))):
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise TrainError(
                "environment",
                f"{folder!r}: expected a folder to write to, found: {error.strerror}",
                hint="check the path and its permissions",
            ) from error


def _cluster(config: dict[str, Any], rank: int, size: int, planned: int) -> tuple[str, ...]:
    """The workers of TF_CONFIG, if it says what the plan says. TensorFlow would train alone on a wrong one."""
    cluster, task = config.get("cluster"), config.get("task")
    workers = cluster.get("worker") if isinstance(cluster, dict) else None
    if not isinstance(workers, list) or not workers or not all(isinstance(w, str) and ":" in w for w in workers):
        raise _misfit('TF_CONFIG names no workers: expected {"cluster": {"worker": ["HOST:PORT", …]}}')
    if list(cluster) != ["worker"]:  # type: ignore[arg-type]
        raise _misfit(f"TF_CONFIG has the jobs {', '.join(cluster)}; only `worker` is expected")  # type: ignore[arg-type]
    if not len(workers) == size == planned:
        raise _misfit(f"TF_CONFIG has {len(workers)} workers, {names.WORLD_SIZE} says {size} and the plan {planned}")
    if not isinstance(task, dict) or task.get("type") != "worker" or task.get("index") != rank or rank >= size:
        raise _misfit(f"TF_CONFIG says that this is {task}, {names.RANK} says rank {rank} of {size}")
    if len(set(workers)) != size:
        raise _misfit("TF_CONFIG names a worker twice")
    return tuple(workers)


def _misfit(message: str) -> TrainError:
    return TrainError("cluster", message, hint="start every rank with the environment that the plan prints for it")


def _job(values: dict[str, Any]) -> Job:
    take = _Taker(values)
    dataset = _Taker(take.mapping("dataset"), "dataset.")
    every = _Taker(take.mapping("checkpoint"), "checkpoint.")
    model = take.text("model")
    if model != "cnn":
        take.function("model")
    return Job(
        model=model,
        dataset=dataset.text("kind"),
        dataset_path=dataset.text("path") if values["dataset"].get("path") is not None else None,
        dataset_function=dataset.function("function") if values["dataset"].get("kind") == "function" else None,
        epochs=take.whole("epochs", 1),
        batch_size=take.whole("batch_size", 1),
        learning_rate=(
            take.named("learning_rate", SCHEDULES)
            if isinstance(values.get("learning_rate"), dict)
            else take.positive("learning_rate")
        ),
        optimizer=take.named("optimizer", OPTIMIZERS),
        loss=None if values.get("loss") is None else take.named("loss", LOSSES),
        seed=take.whole("seed", 0, MAX_SEED),
        deterministic=take.flag("deterministic"),
        precision=take.named("precision", PRECISIONS),
        communication=take.one_of("communication", COMMUNICATIONS),
        threads=take.optional("threads"),
        workers=take.whole("workers", 1),
        every=Every(every.optional("every_epochs"), every.optional("every_steps"), every.seconds("every_seconds")),
        saves="saves" in values["checkpoint"] and every.flag("saves"),
    )


class _Taker:
    """Takes values out of a JSON object by name; a wrong one is a TrainError that names it."""

    def __init__(self, values: dict[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def _wrong(self, name: str, expected: str) -> TrainError:
        found = repr(self._values[name]) if name in self._values else "nothing"
        return _unfit(f"{names.TRAIN}: {self._prefix}{name}: expected {expected}, found {found}")

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "a text")
        return value

    def function(self, name: str) -> str:
        value = self.text(name)
        if not re.fullmatch(r"[\w.]+:\w+", value):
            raise self._wrong(name, "package.module:function")
        return value

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or value not in allowed:
            raise self._wrong(name, " or ".join(allowed))
        return value

    def named(self, name: str, known: Mapping[str, Taken]) -> Named:
        """A name of Keras's, or an object with it and settings. Which settings there are is Keras's to say."""
        value = self._values.get(name)
        settings = dict(value) if isinstance(value, dict) else {"name": value}
        chosen = settings.pop("name", None)
        if not isinstance(chosen, str) or chosen not in known:
            raise self._wrong(name, f"the name of one of {', '.join(known)}, or an object with it and settings")
        for key, setting in settings.items():
            numbers = setting if isinstance(setting, list) else [setting]
            if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
                raise _unfit(f"{names.TRAIN}: {self._prefix}{name}.{key}: expected a number, found {setting!r}")
        return Named(chosen, settings)

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def whole(self, name: str, least: int, most: int = 2**31 - 1) -> int:
        value = self._values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(name, f"a whole number from {least} to {most}")
        return value

    def optional(self, name: str) -> int | None:
        return None if self._values.get(name) is None else self.whole(name, 1)

    def positive(self, name: str) -> float:
        value = self._values.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            raise self._wrong(name, "a number over 0")
        return float(value)

    def seconds(self, name: str) -> float | None:
        return None if self._values.get(name) is None else self.positive(name)


def _unfit(message: str) -> TrainError:
    return TrainError("environment", message, hint="start this rank with the environment that the plan prints for it")


def _text(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "")
    if not value:
        raise _unfit(f"{name} is not set")
    return value


def _number(env: Mapping[str, str], name: str, least: int) -> int:
    value = _text(env, name)
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= least):
        raise _unfit(f"{name}: expected a whole number from {least}, found {value!r}")
    return int(value)


def _json(env: Mapping[str, str], name: str) -> dict[str, Any]:
    text = _text(env, name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unfit(f"{name}: expected JSON, found {text[:200]!r} ({error})") from error
    if not isinstance(value, dict):
        raise _unfit(f"{name}: expected a JSON object, found {text[:200]!r}")
    return value
