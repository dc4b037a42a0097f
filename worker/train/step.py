"""Steps on the device: reduce everything first, then commit everything, or nothing.

A step computes gradients and statistics on every replica and sums them over all replicas of the cluster. The result of
that sum decides on the device whether the step counts: every assignment (weights, optimizer slots, sums of the epoch,
step counter) lies in the branch of a `cond` whose predicate depends on all sums. So whatever breaks a collective, state
is that of a whole step; and a step whose loss or gradients are not finite leaves no trace on any worker
(but for the scale of the loss, where there is one: see `precision`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from .beside import Beside, Changed
from .objective import Objective, Share
from .order import Schedule, slots_per_replica
from .precision import LossScale
from .source import Source
from .sums import Sum


@dataclass(frozen=True)
class Parts:
    """What steps work on. Variables are mirrored: each worker holds its own copy, equal to all others."""

    strategy: Any
    model: Any
    optimizer: Any
    scale: LossScale | None
    step: Any  # int64: whole steps done, over all epochs
    loss_sum: Any  # float64: of the images seen in this epoch
    correct: Any  # int64: of the images seen in this epoch
    objective: Objective
    beside: Beside  # what the model changes beside its weights
    metric_sums: list[Any]  # float64: what the images of this epoch have added to the state of the objective's metrics


class Word(NamedTuple):
    """What this worker brings to a chunk's beginning. `length` is heeded from the chief only."""

    length: int
    stop: bool = False
    asked: bool = False  # for a checkpoint
    due: bool = False  # by time, a checkpoint is; it is left out while any worker is busy
    busy: bool = False  # writing the checkpoint before


class Agreed(NamedTuple):
    """What all workers agreed on, the same on each, and where the chunk has led."""

    stop: bool
    checkpoint: str  # why there is to be one, of the words of a SAVED record; or empty
    finite: bool  # False: the step after `step` has a loss or gradients that are not finite
    step: int
    loss_sum: float
    correct: int


class Sums(NamedTuple):
    """The cluster's sums of a step, on each replica."""

    gradients: list[Any]
    statistics: Any  # [loss, correct answers], over images
    metrics: list[Any]
    changed: Changed
    batch: Any  # int32: images in the step


class Stepper:
    """Runs chunks of steps, each in one call of TensorFlow. Every worker must call `chunk` equally often."""

    def __init__(self, parts: Parts, source: Source, schedule: Schedule, chief: bool, sum_: Sum) -> None:
        self._parts = parts
        self._source = source
        self._schedule = schedule
        self._chief = chief
        self._sum = sum_
        self._slots = slots_per_replica(schedule.batch, parts.strategy.num_replicas_in_sync)
        self._chunk = tf.function(self._traced_chunk, autograph=False)

    def chunk(self, step: int, word: Word) -> Agreed:
        """Agree, then do the agreed number of steps (none if any worker asks for a stop or a checkpoint).

        `step` is the number of whole steps done; a chunk must not go beyond its epoch. Blocks until all workers have
        called. Raises tf.errors.OpError if a peer is gone; state is then that of a whole step.
        """
        length = min(word.length, self._source.most) if self._chief else 0
        brought = tf.constant([length, word.stop, word.asked, word.due, word.busy], tf.float32)
        results = self._chunk(*self._source.arguments(step), brought)
        (_, stop, asked, due, _), finite, step, loss_sum, correct = (result.numpy() for result in results)
        why = "asked" if asked > 0 else "every" if due > 0 else ""
        return Agreed(bool(stop > 0), why, bool(finite), int(step), float(loss_sum), int(correct))

    def metrics(self) -> dict[str, float | None]:
        """The values of the objective's metrics over the images seen in this epoch."""
        metrics = self._parts.objective.metrics
        return metrics.results([variable.numpy() for variable in self._parts.metric_sums]) if metrics else {}

    def _traced_chunk(self, images: Any, labels: Any, order: Any, brought: Any) -> Any:
        parts = self._parts
        agreed = self._first(parts.strategy.run(self._agree, args=(brought,)))
        length = tf.where(tf.reduce_sum(agreed[1:4]) > 0, 0, tf.cast(agreed[0], tf.int32))

        def body(done: Any, finite: Any) -> Any:
            reduced = parts.strategy.run(self._reduce, args=(images, labels, order))
            finite = self._all_finite(reduced)
            finite = tf.cond(finite, lambda: self._commit(reduced), lambda: self._pass_over(reduced))
            return done + 1, finite

        _, finite = tf.while_loop(
            lambda done, finite: finite & (done < length), body, (tf.constant(0), tf.constant(True))
        )
        with tf.control_dependencies([finite]):
            counted = [variable.read_value() for variable in (parts.step, parts.loss_sum, parts.correct)]
        return agreed, finite, *counted

    def _agree(self, brought: Any) -> Any:
        """The control word: sums of what all bring. Floats are exact up to 2^24 and reducible on every device."""
        context = tf.distribute.get_replica_context()
        chief = tf.cast(tf.equal(context.replica_id_in_sync_group, 0), tf.float32)
        word = context.all_reduce(tf.distribute.ReduceOp.SUM, brought * tf.stack([chief, 1.0, 1.0, 1.0, 1.0]))
        length, stop, asked, due, busy = tf.unstack(word)
        return tf.stack([length, stop, asked, tf.where(busy > 0, 0.0, due), busy])

    def _reduce(self, images: Any, labels: Any, order: Any) -> Sums:
        """One replica's share of a step, summed over the cluster."""
        context = tf.distribute.get_replica_context()
        parts, replica = self._parts, context.replica_id_in_sync_group
        done = parts.step.read_value()
        start = tf.cast(done % self._schedule.steps_per_epoch, tf.int32) * self._schedule.batch
        real = tf.minimum(self._schedule.batch, self._schedule.images - start)
        slot = replica * self._slots + tf.range(self._slots)
        index = self._source.index(order, done, start, slot, real)
        x, y = prepared(tf.gather(images, index)), tf.gather(labels, index)
        here = tf.clip_by_value(real - replica * self._slots, 0, self._slots)
        variables = parts.model.trainable_variables
        with tf.GradientTape() as tape, parts.beside.scope(replica) as scope:
            outputs = parts.model(x, training=True)
            share = Share(y, outputs, tf.cast(slot < real, tf.float32), here, real, parts.strategy.num_replicas_in_sync)
            total = parts.objective.total(parts.model, share)
            loss = total / tf.cast(real, tf.float32)
            if parts.scale is not None:
                loss = parts.scale.scaled(loss)
        gradients = [
            tf.convert_to_tensor(tf.zeros_like(variable.value) if gradient is None else gradient)
            for gradient, variable in zip(tape.gradient(loss, [v.value for v in variables]), variables, strict=True)
        ]
        statistics = tf.stack([total, parts.objective.right(share)])
        metrics = parts.objective.metrics.found(share) if parts.objective.metrics else []
        changed = parts.beside.changed(scope, replica, here)
        sums = self._sum(context, [*gradients, statistics, *metrics, *changed.floats])
        gradients, rest = sums[: len(gradients)], sums[len(gradients) + 1 :]
        whole = [context.all_reduce(tf.distribute.ReduceOp.SUM, value) for value in changed.whole]
        changed = Changed(rest[len(metrics) :], whole, changed.seeds)
        return Sums(gradients, sums[len(gradients)], rest[: len(metrics)], changed, real)

    def _all_finite(self, reduced: Sums) -> Any:
        """Whether loss and gradients are finite. Depends on all sums of all local replicas: no commit comes before."""
        results = self._parts.strategy.experimental_local_results
        with tf.control_dependencies([value for each in tf.nest.flatten(reduced) for value in results(each)]):
            judged = [*reduced.gradients, reduced.statistics, *reduced.changed.floats]
            return tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for each in judged for v in results(each)])

    def _commit(self, reduced: Sums) -> Any:
        self._commit_beside(reduced)
        self._parts.strategy.run(self._assign, args=(reduced.gradients, reduced.statistics))
        return tf.constant(True)

    def _commit_beside(self, reduced: Sums) -> None:
        """Metrics, and what the model changes beside its weights."""
        parts = self._parts
        first = tf.equal(parts.step.read_value() % self._schedule.steps_per_epoch, 0)

        def add(variable: Any, more: Any) -> Any:
            before = tf.where(first, tf.zeros(variable.shape, variable.dtype), variable.read_value())
            return variable.assign(before + tf.cast(more, variable.dtype))

        for variable, more in zip(parts.metric_sums, reduced.metrics, strict=True):
            parts.strategy.extended.update(variable, add, args=(more,))
        parts.beside.commit(parts.strategy, reduced.changed, reduced.batch)

    def _pass_over(self, reduced: Sums) -> Any:
        """Without an update: what becomes of a step that is not finite. True if it counts all the same.

        With a scaled loss, gradients that overflow tell of the scale, which is halved, until it is at its floor. The
        loss itself is not scaled: if it is not finite, no scale will mend it.
        """
        parts = self._parts
        if parts.scale is None:
            return tf.constant(False)

        def count() -> Any:
            self._commit_beside(reduced)
            parts.strategy.run(self._assign_without_update, args=(reduced.statistics,))
            return tf.constant(True)

        local = parts.strategy.experimental_local_results
        unscaled = [value for each in (reduced.statistics, *reduced.changed.floats) for value in local(each)]
        mendable = tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in unscaled])
        return tf.cond(mendable & parts.scale.may_fall, count, lambda: tf.constant(False))

    def _assign_without_update(self, statistics: Any) -> None:
        self._parts.scale.fall()  # type: ignore[union-attr]
        self._count(statistics)

    def _assign(self, gradients: Any, statistics: Any) -> None:
        parts = self._parts
        if parts.scale is not None:
            gradients = parts.scale.unscaled(gradients)
            parts.scale.grow()
        parts.optimizer.apply(gradients, parts.model.trainable_variables)
        self._count(statistics)

    def _count(self, statistics: Any) -> None:
        parts = self._parts
        done = parts.step.read_value()
        first = tf.equal(done % self._schedule.steps_per_epoch, 0)
        loss_sum = tf.where(first, tf.zeros((), tf.float64), parts.loss_sum.read_value())
        correct = tf.where(first, tf.zeros((), tf.int64), parts.correct.read_value())
        parts.loss_sum.assign(loss_sum + tf.cast(statistics[0], tf.float64))
        parts.correct.assign(correct + tf.cast(statistics[1], tf.int64))
        parts.step.assign(done + 1)

    def _first(self, value: Any) -> Any:
        return self._parts.strategy.experimental_local_results(value)[0]


def prepared(x: Any) -> Any:
    """Examples as the model takes them: bytes are images and become floats in [0, 1]; all else stays as it is."""
    return tf.cast(x, tf.float32) / 255.0 if x.dtype == tf.uint8 else x
