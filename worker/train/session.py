"""One life of this rank, from the settings to its end: join, build, restore, loop, save. Imports TensorFlow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ..contract import records
from ..contract.machine.processor import instructions
from ..contract.states import WorkerExit
from . import (
    breakage,
    checkpoint,
    datasets,
    fingerprint,
    model,
    optimizer,
    precision,
    state,
    strategy,
    stream,
    sums,
    userdata,
)
from .agreement import Agreement
from .control import Control
from .errors import TrainError
from .evaluate import Evaluator
from .inputs import Inputs
from .journey import Journey
from .loop import Loop
from .order import Schedule
from .progress import Progress
from .saver import Saver
from .settings import Settings
from .source import Held, HeldTest, Source, TestSource
from .step import Parts, Stepper
from .userfunction import UserFunction, told
from .usermodel import UserModel
from .words import say

MODEL_FILE = "model.keras"
WEIGHTS_FILE = "model.weights.h5"


def train(settings: Settings, inputs: Inputs, progress: Progress, control: Control) -> WorkerExit:
    """Train to the end or to a stop. Raises TrainError; with reason `peer`, what was finished is saved by then."""
    try:
        return _Session(settings, inputs, progress, control).run()
    except tf.errors.OpError as error:
        raise breakage.explain(error, len(settings.workers), settings.job.deterministic) from error


class _Session:
    def __init__(self, settings: Settings, inputs: Inputs, progress: Progress, control: Control) -> None:
        self._settings = settings
        self._inputs = inputs
        self._progress = progress
        self._control = control

    def run(self) -> WorkerExit:
        settings, job = self._settings, self._settings.job
        strategy.configure(job, alone=len(settings.workers) == 1)
        way = precision.configure(job, instructions())
        with self._progress.phase("strategy"):
            cluster = strategy.join(settings)
        # The user's functions come after the strategy, which must be there before TensorFlow is used for anything.
        images, digest = self._data()
        self._schedule = Schedule(images, job.batch_size, job.epochs)
        with self._progress.phase("build") as record:
            self._blueprint = self._look_at_model(record)
            parts = self._build(cluster)
            source, test = self._sources(cluster)
        self._identity = {**fingerprint.identity(job, images, digest), **self._blueprint.identity}
        about = {
            "identity": self._identity,
            "fingerprint": fingerprint.fingerprint(job, cluster.num_replicas_in_sync, way.told),
        }
        with self._progress.phase("restore") as record:
            journey = self._restore(parts, about["fingerprint"], record)
        saver = Saver(
            settings.checkpoints, settings.generation, parts, self._schedule, self._progress, about, journey.step
        )
        loop = Loop(
            settings,
            self._schedule,
            Stepper(parts, source, self._schedule, settings.chief, sums.way_for(cluster, len(settings.workers))),
            Evaluator(cluster, parts.model, parts.objective, parts.beside, test),
            Agreement(cluster, list(state.named_variables(parts).values()), len(settings.workers)),
            saver,
            self._progress,
            self._control,
            journey,
        )
        if len(settings.workers) > 1:
            self._control.on_peer_lost(strategy.break_collectives)
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        try:
            end = loop.run(fingerprint.digest({**self._identity, **versions, "step": journey.step}))
        except tf.errors.OpError as error:
            failure = breakage.explain(error, len(settings.workers), job.deterministic)
            if failure.reason == "peer":
                with self._progress.phase("rescue"):
                    saver.save(journey, "rescue")
            elif failure.step is None:  # by the step it is known again, should it come twice
                failure.step = int(parts.step.numpy())
            raise failure from error
        finally:
            saver.finish()
        if end is WorkerExit.DONE and settings.chief:
            self._finish(parts, journey)
        return end

    def _data(self) -> tuple[int, str]:
        """Get the data set, calling the user's function if it is one; returns how many images, and a digest."""
        self._factory: stream.Factory | None = None
        if self._inputs.arrays is not None:
            self._arrays = self._inputs.arrays
            return len(self._arrays.x_train), self._inputs.digest
        name, seed = self._settings.job.dataset_function, self._settings.job.seed
        assert name is not None
        with self._progress.phase("data"):
            function = UserFunction(name, "train.dataset", "data")
            made = function.call(userdata.RETURNS, {"seed": seed})
            self._factory = stream.factory(function, made, seed)
            keras.utils.set_random_seed(seed)  # whatever the function has drawn
            if self._factory is None:
                self._arrays = userdata.arrays(function, made)
                return len(self._arrays.x_train), datasets.digest(self._arrays)
            self._arrays = self._factory.sample
        if self._settings.chief and not self._factory.ordered:
            say(f"each epoch is shuffled through a buffer of {stream.SHUFFLED} elements, as `train` takes no `epoch`")
        return self._factory.train_size, self._factory.digest

    def _sources(self, cluster: Any) -> tuple[Source, TestSource]:
        arrays, rank, seed = self._arrays, self._settings.rank, self._settings.job.seed
        if self._factory is None:
            held = Held(cluster, arrays.x_train, arrays.y_train, seed, self._schedule)
            return held, HeldTest(cluster, arrays.x_test, arrays.y_test)
        return (
            stream.TrainStream(cluster, self._factory, rank, seed, self._schedule),
            stream.TestStream(cluster, self._factory, rank),
        )

    def _look_at_model(self, record: dict[str, Any]) -> model.Blueprint:
        """The model's blueprint; tells which promise holds for it."""
        job = self._settings.job
        blueprint = UserModel(job, self._arrays) if ":" in job.model else model.Cnn(job, self._arrays)
        record["splits"] = blueprint.splits
        if self._settings.chief and ":" in job.model:
            if blueprint.splits:
                say(
                    "same bits for this number of workers; another number gives other results, because of "
                    f"{'; '.join(blueprint.splits)}"
                )
            else:
                say("same mathematics for any number of workers")
        return blueprint

    def _build(self, cluster: Any) -> Parts:
        objective = self._blueprint.objective
        with cluster.scope():
            net, beside = self._blueprint.build()
            updates = optimizer.summed(self._settings.job)
            updates.build(net.trainable_variables)
            scale = precision.loss_scale(self._settings.job)
            step, loss_sum, correct = _counter(tf.int64), _counter(tf.float64), _counter(tf.int64)
            shapes = objective.metrics.shapes if objective.metrics else []
            metric_sums = [_counter(tf.float64, shape) for shape in shapes]
        return Parts(cluster, net, updates, scale, step, loss_sum, correct, objective, beside, metric_sums)

    def _restore(self, parts: Parts, now: dict[str, Any], record: dict[str, Any]) -> Journey:
        """The journey of the checkpoint to go on from, its arrays put back; a fresh one if there is none."""
        found, folder = self._inputs.checkpoint, self._settings.resume
        if found is None:
            return Journey()
        changed = fingerprint.differences(found.state.get("identity"), self._identity)
        if changed:
            raise TrainError(
                "data",
                f"{folder}: it is of another run: {'; '.join(changed)}",
                hint="resume with the data and settings that the checkpoint was made with",
            )
        try:
            state.restore(parts, found.arrays)
            journey = Journey.from_state(found.state, found.arrays, self._schedule)
        except (checkpoint.CheckpointError, ValueError) as error:
            raise TrainError("data", f"{folder}: {error}", hint="resume from another checkpoint") from error
        record["step"] = journey.step
        others = fingerprint.differences(found.state.get("fingerprint"), now)
        if others:
            record["fingerprint"] = others
            say(f"not bit for bit from here on: {'; '.join(others)}")
        return journey

    def _finish(self, parts: Parts, journey: Journey) -> None:
        """The model on disk, whole, and the RESULT record. The last epoch's validation is the final test."""
        settings = self._settings
        weights = [variable.numpy() for variable in parts.model.weights]
        plain = self._blueprint.to_save(weights, optimizer.plain(settings.job))
        try:
            name = self._save(plain)
            checkpoint.sync_folder(settings.output)
        except OSError as error:
            raise TrainError(
                "error", f"{settings.output}: the model could not be saved: {error}", hint="make room there"
            ) from error
        last = journey.history[-1]
        self._progress.write(records.RESULT, test_loss=last["val_loss"], test_accuracy=last["val_accuracy"], model=name)

    def _save(self, plain: keras.Model) -> str:
        """Save the model, or what can be saved of it; returns the file's name. Raises OSError."""
        try:
            return self._put(MODEL_FILE, plain.save)
        except OSError:
            raise
        except Exception as error:  # a user's class may know no way to be saved
            say(f"the model cannot be saved as {MODEL_FILE} ({told(error)}): its weights are saved instead")
            return self._put(WEIGHTS_FILE, plain.save_weights)

    def _put(self, name: str, save: Callable[[str], None]) -> str:
        temporary = os.path.join(self._settings.output, f".{os.getpid()}.{name}")
        try:
            save(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, os.path.join(self._settings.output, name))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        return name


def _counter(dtype: Any, shape: tuple[int, ...] = ()) -> Any:
    only_first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(tf.zeros(shape, dtype), trainable=False, aggregation=only_first)
