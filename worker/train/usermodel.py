"""A model that a user's function makes. It is made twice: plain, to be looked at and saved, and under the strategy."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import beside
from .beside import Beside
from .datasets import Arrays
from .loss import Crossentropy
from .objective import Metrics, Objective, OwnLoss, UserObjective
from .settings import Job
from .step import prepared
from .userfunction import UserFunction, told

RETURNS = "a Keras 3 model"
_PROBED = 4  # images in each of two batches on which a model is tried
_OVERRIDES = ("train_step", "test_step", "compute_loss", "compute_metrics")
_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight")


class UserModel:
    """What is known of the model before anything trains. Raises TrainError for one that cannot be trained here."""

    def __init__(self, job: Job, arrays: Arrays) -> None:
        self._function = UserFunction(job.model, "train.model", "environment")
        self._seed = job.seed
        self._loss = job.loss
        self._offered = {"input_shape": arrays.x_train.shape[1:], "classes": arrays.classes}
        self._arrays = arrays
        with tf.device("/CPU:0"):
            self._plain = self._make()
            self._numbers, foreign = self._studied()
            if foreign:
                raise self._function.fault(
                    "a step of the model changes state that is not its own: random numbers drawn without a seed, or a "
                    "metric updated in `call`",
                    "give each layer that draws random numbers a `keras.random.SeedGenerator` as an attribute, and "
                    "name metrics in `compile(metrics=…)`",
                )
            self.objective: Objective = self._objective()

    @property
    def splits(self) -> list[str]:
        """What of the model depends on how a batch is split over replicas."""
        return Beside(self._plain, self._numbers).splits

    @property
    def identity(self) -> dict[str, Any]:
        """The structure of the model, as far as its variables tell it."""
        shapes = [(v.name, tuple(v.shape), v.dtype, v.trainable) for v in self._plain.variables]
        return {"variables": hashlib.sha256(repr(shapes).encode()).hexdigest()[:32]}

    def build(self) -> tuple[keras.Model, Beside]:
        """The model to train; call it in the strategy's scope."""
        keras.utils.set_random_seed(self._seed)
        net = self._make()
        ours, first = ([(tuple(v.shape), v.dtype) for v in model.variables] for model in (net, self._plain))
        if ours != first:
            raise self._function.fault(
                "it returned another model when it was called a second time", "let it return the same model each time"
            )
        return net, Beside(net, self._numbers)

    def to_save(self, weights: list[Any], optimizer: Any) -> keras.Model:
        """A plain model with these weights: compiled as the user did, or with this optimizer and the usual loss."""
        self._plain.set_weights(weights)
        self.objective.compile(self._plain, optimizer)
        return self._plain

    def _make(self) -> keras.Model:
        made = self._function.call(RETURNS, self._offered)
        if not isinstance(made, keras.Model):
            kind = f"{type(made).__module__}.{type(made).__qualname__}"
            raise self._function.fault(f"expected {RETURNS}, it returned {kind}", f"return {RETURNS} (`keras.Model`)")
        own = [name for name in _OVERRIDES if getattr(type(made), name) is not getattr(keras.Model, name)]
        if own:
            raise self._function.fault(
                f"the model has its own {' and '.join(own)}, which this trainer would not call",
                "say it with `compile(loss=…, metrics=…)`, or run your training as a `program:`",
            )
        if not made.built or not getattr(made, "inputs", None):  # a subclassed one makes its variables when called
            self._built(made)
        return made

    def _built(self, model: keras.Model) -> None:
        shape = self._arrays.x_train.shape[1:]
        zeros = prepared(tf.zeros((1, *shape), self._arrays.x_train.dtype))
        try:
            model(zeros)
        except tf.errors.UnavailableError:  # a peer that is gone while variables are made
            raise
        except Exception as error:
            raise self._function.fault(
                f"the model cannot be called on a batch of shape {[1, *shape]}: {told(error)}", "mend the model"
            ) from error

    def _studied(self) -> tuple[list[int], bool]:
        try:
            return beside.study(self._plain, self._probes()[0][0])
        except Exception as error:
            raise self._function.fault(
                f"the model cannot be called with training=True: {told(error)}", "mend the model"
            ) from error

    def _probes(self) -> list[tuple[Any, Any]]:
        """Two small batches of the data: (x, y)."""
        x, y = self._arrays.x_train, self._arrays.y_train
        some = [np.arange(start, start + _PROBED) % len(x) for start in (0, _PROBED)]
        return [(prepared(tf.constant(x[index])), tf.constant(y[index])) for index in some]

    def _objective(self) -> Objective:
        model = self._plain
        (x, y), (other_x, other_y) = self._probes()
        outputs = model(x, training=False)
        if not tf.is_tensor(outputs) or outputs.shape[:1] != [_PROBED]:
            raise self._function.fault(
                f"expected a model with one output per image, found {keras.tree.map_structure(np.shape, outputs)} "
                f"for {_PROBED} images",
                "models with several outputs can be trained as a `program:`",
            )
        classes = self._arrays.classes
        columns = outputs.shape[1] if outputs.shape.rank == 2 else 0
        told_accuracy = classes is not None and columns >= max(classes, 2)
        metrics = self._metrics((y, outputs), (other_y, model(other_x, training=False)))
        if model.compiled and model._compile_loss is not None:
            if self._loss is not None:
                raise self._function.fault(
                    f"the model was compiled with a loss of its own, and `train.loss` says {self._loss}, too",
                    "drop one of the two: `loss:` in the spec, or `loss=` in `compile`",
                )
            return UserObjective(OwnLoss(model._compile_loss, self._reduction(y, outputs)), told_accuracy, metrics)
        if not told_accuracy:
            which = f"`train.loss`, {self._loss}," if self._loss else "the usual one"
            raise self._function.fault(
                f"the model was not compiled with a loss, and {which} needs classes: targets are {self._targets()}, "
                f"outputs have the shape {outputs.shape.as_list()}",
                "compile the model with a loss, or let it have an output for each class",
            )
        return UserObjective(Crossentropy(self._loss, not _probabilities(outputs)), told_accuracy, metrics)

    def _targets(self) -> str:
        y, classes = self._arrays.y_train, self._arrays.classes
        return f"numbers from 0 to {classes - 1}" if classes is not None else f"{y.dtype} of shape {list(y.shape[1:])}"

    def _reduction(self, y: Any, outputs: Any) -> str:
        """How the model's loss sums over a batch. Raises TrainError for one that cannot be computed, or split."""
        loss = self._plain._compile_loss
        try:
            loss(y, outputs, tf.ones(_PROBED))
            alone = [not len(each.loss.call(y, outputs).shape) for each in loss._flat_losses]
        except Exception as error:
            raise self._function.fault(
                f"its loss cannot be computed from outputs of shape {outputs.shape.as_list()} and targets that are "
                f"{self._targets()}: {told(error)}",
                "choose a loss that fits the targets",
            ) from error
        kinds = {str(each.loss.reduction) for each in loss._flat_losses}
        if any(alone):
            raise self._function.fault(
                "its loss makes one number of a whole batch, so that workers cannot share the batch",
                "let it return a number for each image; Keras takes the mean",
            )
        if len(kinds) != 1 or not kinds <= set(_REDUCTIONS):
            raise self._function.fault(
                f"its loss has the reduction {' and '.join(sorted(kinds))}", f"use one of {', '.join(_REDUCTIONS)}"
            )
        return kinds.pop()

    def _metrics(self, *probes: tuple[Any, Any]) -> Metrics:
        compiled = self._plain._compile_metrics if self._plain.compiled else None
        if compiled is None:
            return Metrics(())
        try:
            compiled.build(*probes[0])
            for metric in compiled.metrics:  # some make their variables when they are first updated
                metric.update_state(*probes[0])
            metrics = Metrics(compiled.metrics)
            misfits = metrics.misfits(*probes)
        except Exception as error:
            raise self._function.fault(
                f"its metrics cannot be computed: {told(error)}", "choose metrics that fit the targets"
            ) from error
        if misfits:
            raise self._function.fault(
                f"the metric {misfits[0]} keeps a state that is no sum over images, so that workers cannot share it",
                "leave it out, or compute it from sums: `add_variable`, and add to it in `update_state`",
            )
        return metrics


def _probabilities(outputs: Any) -> bool:
    """Whether outputs look like those of a softmax: none is negative, and those of each image add up to 1."""
    values = tf.cast(outputs, tf.float32)
    return bool(tf.reduce_all(values >= 0)) and bool(tf.reduce_all(tf.abs(tf.reduce_sum(values, -1) - 1) < 0.01))
