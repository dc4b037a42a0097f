"""One life of this rank, from the settings to its end: join, build, restore, loop, save. Imports TensorFlow."""

from __future__ import annotations

import os
import sys
from typing import Any

import keras
import tensorflow as tf

from ..contract import records
from ..contract.states import WorkerExit
from . import breakage, checkpoint, fingerprint, model, state, strategy
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
from .step import Parts, Stepper

MODEL_FILE = "model.keras"


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
        images = inputs.arrays.x_train
        self._schedule = Schedule(len(images), settings.job.batch_size, settings.job.epochs)
        self._identity = fingerprint.identity(settings.job, len(images), inputs.digest)

    def run(self) -> WorkerExit:
        settings, job = self._settings, self._settings.job
        strategy.configure(job)
        with self._progress.phase("strategy"):
            cluster = strategy.join(settings)
        with self._progress.phase("build"):
            parts = self._build(cluster)
        about = {
            "identity": self._identity,
            "fingerprint": fingerprint.fingerprint(job, cluster.num_replicas_in_sync),
        }
        with self._progress.phase("restore") as told:
            journey = self._restore(parts, about["fingerprint"], told)
        saver = Saver(
            settings.checkpoints, settings.generation, parts, self._schedule, self._progress, about, journey.step
        )
        loop = Loop(
            settings,
            self._schedule,
            Stepper(parts, self._schedule, settings.chief),
            self._evaluator(parts),
            Agreement(cluster, list(state.named_variables(parts).values()), len(settings.workers)),
            saver,
            self._progress,
            self._control,
            journey,
        )
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        try:
            end = loop.run(fingerprint.digest({**self._identity, **versions, "step": journey.step}))
        except tf.errors.OpError as error:
            failure = breakage.explain(error, len(settings.workers), job.deterministic)
            if failure.reason == "peer":
                with self._progress.phase("rescue"):
                    saver.save(journey, "rescue")
            raise failure from error
        finally:
            saver.finish()
        if end is WorkerExit.DONE and settings.chief:
            self._finish(parts, journey)
        return end

    def _build(self, cluster: Any) -> Parts:
        arrays = self._inputs.arrays
        with cluster.scope():
            net = model.build(self._settings.job, arrays.x_train.shape[1:], arrays.classes)
            optimizer = model.optimizer(self._settings.job)
            optimizer.build(net.trainable_variables)
            step, loss_sum, correct = _counter(tf.int64), _counter(tf.float64), _counter(tf.int64)
        images, labels = _on_each_device(cluster, arrays.x_train), _on_each_device(cluster, arrays.y_train)
        return Parts(cluster, net, optimizer, step, loss_sum, correct, images, labels)

    def _evaluator(self, parts: Parts) -> Evaluator:
        arrays, cluster = self._inputs.arrays, parts.strategy
        images, labels = _on_each_device(cluster, arrays.x_test), _on_each_device(cluster, arrays.y_test)
        return Evaluator(cluster, parts.model, images, labels, len(arrays.x_test))

    def _restore(self, parts: Parts, now: dict[str, Any], told: dict[str, Any]) -> Journey:
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
        told["step"] = journey.step
        others = fingerprint.differences(found.state.get("fingerprint"), now)
        if others:
            told["fingerprint"] = others
            print(f"not bit for bit from here on: {'; '.join(others)}", file=sys.stderr, flush=True)
        return journey

    def _finish(self, parts: Parts, journey: Journey) -> None:
        """The model on disk, whole, and the RESULT record. The last epoch's validation is the final test."""
        arrays, settings = self._inputs.arrays, self._settings
        weights = [variable.numpy() for variable in parts.model.weights]
        plain = model.compiled(settings.job, arrays.x_train.shape[1:], arrays.classes, weights)
        path = os.path.join(settings.output, MODEL_FILE)
        temporary = os.path.join(settings.output, f".{os.getpid()}.{MODEL_FILE}")
        try:
            plain.save(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            checkpoint.sync_folder(settings.output)
        except OSError as error:
            raise TrainError(
                "error", f"{path}: the model could not be saved: {error}", hint="make room there"
            ) from error
        last = journey.history[-1]
        self._progress.write(
            records.RESULT, test_loss=last["val_loss"], test_accuracy=last["val_accuracy"], model=MODEL_FILE
        )


def _counter(dtype: Any) -> Any:
    only_first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(tf.zeros((), dtype), trainable=False, aggregation=only_first)


def _on_each_device(cluster: Any, array: Any) -> Any:
    """The array as a tensor on every local device: a replica that gathers from another's would copy it each step."""
    devices = iter(strategy.local_devices(cluster))

    def on_next(_: Any) -> Any:
        with tf.device(next(devices)):
            return tf.identity(tf.constant(array))

    return cluster.experimental_distribute_values_from_function(on_next)
