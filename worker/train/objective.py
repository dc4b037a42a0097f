"""What training makes small and what is told of it: the loss, the accuracy and the metrics of the model at hand.

A loss is computed as a *total*: over all replicas the totals of a batch add up to its mean loss times its number of
images, whatever way the batch is split and padded. Metrics are used as functions of their state; the state of each must
be a sum over images, so that what the replicas find can be summed with the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .loss import Crossentropy


@dataclass(frozen=True)
class Share:
    """The part of a batch that a replica computes. Real slots come first; `weight` is 1 for them and 0 for padding."""

    y: Any
    outputs: Any
    weight: Any  # float32 [slots]
    here: Any  # int32: real slots of this replica
    batch: Any  # int32: real slots of the whole batch
    parts: int  # over how many replicas the batch is split


class Objective:
    """Cross-entropy of classes from logits, and accuracy: the built-in model's."""

    told_accuracy = True
    metrics: Metrics | None = None

    def __init__(self, crossentropy: Crossentropy) -> None:
        self._crossentropy = crossentropy

    def total(self, model: Any, share: Share) -> Any:  # noqa: ARG002 - other objectives ask the model
        """The share's total, as a float32 scalar that gradients can be taken of."""
        losses = self._crossentropy.of_each(share.y, share.outputs) * share.weight
        return tf.reduce_sum(losses)

    def right(self, share: Share) -> Any:
        """How many of the share's images have the right class, as a float32 scalar."""
        right = tf.cast(tf.equal(tf.argmax(share.outputs, -1, tf.int32), share.y), tf.float32) * share.weight
        return tf.reduce_sum(right)

    def compile(self, model: keras.Model, optimizer: Any) -> None:
        """Give a model that is to be saved this loss and the accuracy."""
        model.compile(optimizer=optimizer, loss=self._crossentropy.as_keras(), metrics=["accuracy"])


@dataclass(frozen=True)
class OwnLoss:
    """The loss that a user's model was compiled with."""

    of_batch: Any  # (y, outputs, weight) → scalar
    reduction: str  # how it sums over a batch

    def total(self, share: Share) -> Any:
        """The share's total, as a float32 scalar."""
        return tf.cast(self.of_batch(share.y, share.outputs, share.weight), tf.float32) * self._size(share)

    def _size(self, share: Share) -> Any:
        """What Keras has divided the sum of the losses by, or for a plain sum, what the total is over."""
        if self.reduction == "sum":
            return tf.cast(share.batch, tf.float32)
        mean_of = share.here if self.reduction == "mean_with_sample_weight" else tf.shape(share.weight)[0]
        # Keras divides a mean by the replicas, too: keras.src.losses.loss.scale_loss_for_distribution.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.cast(mean_of * replicas, tf.float32)


class UserObjective(Objective):
    """A user's model: its own loss and metrics if it was compiled with them, else those of classes."""

    def __init__(self, loss: Crossentropy | OwnLoss, told_accuracy: bool, metrics: Metrics) -> None:
        self._loss = loss
        self.told_accuracy = told_accuracy
        self.metrics = metrics

    def total(self, model: Any, share: Share) -> Any:
        if isinstance(self._loss, Crossentropy):
            total = tf.reduce_sum(self._loss.of_each(share.y, share.outputs) * share.weight)
        else:
            total = self._loss.total(share)
        # Each replica brings an equal part of what depends on the weights alone, as Keras's own fit does.
        extra = [tf.cast(loss, tf.float32) for loss in model.losses]
        if not extra:
            return total
        return total + tf.add_n(extra) * tf.cast(share.batch, tf.float32) / float(share.parts)

    def right(self, share: Share) -> Any:
        return super().right(share) if self.told_accuracy else tf.zeros(())

    def compile(self, model: keras.Model, optimizer: Any) -> None:
        if isinstance(self._loss, Crossentropy):
            model.compile(optimizer=optimizer, loss=self._loss.as_keras(), metrics=["accuracy"])


class Metrics:
    """Keras metrics as functions. Their variables are never written; sums of state live with the training's own."""

    def __init__(self, metrics: Sequence[Any]) -> None:
        self._metrics = tuple(metrics)
        self._names = _distinct([metric.name for metric in self._metrics])
        for metric in self._metrics:
            metric.reset_state()
        self._fresh = [[variable.numpy() for variable in metric.variables] for metric in self._metrics]

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each sum, over all metrics."""
        return [value.shape for values in self._fresh for value in values]

    def found(self, share: Share) -> list[Any]:
        """What a share adds to each sum, as float32 tensors."""
        y, outputs = share.y[: share.here], share.outputs[: share.here]
        added = []
        for metric, fresh in zip(self._metrics, self._fresh, strict=True):
            after = metric.stateless_update_state([tf.constant(value) for value in fresh], y, outputs)
            for value, before in zip(after, fresh, strict=True):
                grown = tf.cast(tf.convert_to_tensor(value), tf.float32) - tf.cast(before, tf.float32)
                # A replica without a real image: what a metric makes of nothing may not even be a number.
                added.append(tf.where(share.here > 0, grown, tf.zeros_like(grown)))
        return added

    def results(self, sums: Sequence[Any]) -> dict[str, float | None]:
        """Each metric's value, given what was added to its state. One that is no single number is None."""
        told: dict[str, float | None] = {}
        rest = list(sums)
        for name, metric, fresh in zip(self._names, self._metrics, self._fresh, strict=True):
            added, rest = rest[: len(fresh)], rest[len(fresh) :]
            state = [(before + more).astype(before.dtype) for before, more in zip(fresh, added, strict=True)]
            value = np.asarray(metric.stateless_result([tf.constant(one) for one in state]))
            told[name] = float(value) if value.size == 1 and value.dtype.kind in "biuf" else None
        return told

    def misfits(self, first: tuple[Any, Any], second: tuple[Any, Any]) -> list[str]:
        """The metrics whose state is no sum over images, tried with two pairs of targets and outputs."""
        found = []
        for name, metric, fresh in zip(self._names, self._metrics, self._fresh, strict=True):
            start = [tf.constant(value) for value in fresh]
            one = metric.stateless_update_state(start, *first)
            two = metric.stateless_update_state(start, *second)
            both = metric.stateless_update_state(one, *second)
            if not all(
                np.allclose(np.asarray(c) - z, np.asarray(a) - z + (np.asarray(b) - z), rtol=1e-4, atol=1e-5)
                for a, b, c, z in zip(one, two, both, fresh, strict=True)
            ):
                found.append(name)
        return found


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        count = seen[name] = seen.get(name, -1) + 1
        distinct.append(f"{name}_{count}" if count else name)
    return tuple(distinct)
