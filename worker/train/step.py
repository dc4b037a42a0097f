"""Steps on the device: reduce everything first, then commit everything, or nothing.

A step computes gradients and statistics on every replica and sums them over all replicas of the cluster. The result of
that sum decides on the device whether the step counts: every assignment (weights, optimizer slots, sums of the epoch,
step counter) lies in the branch of a `cond` whose predicate depends on all sums. So whatever breaks a collective, state
is that of a whole step; and a step whose loss or gradients are not finite leaves no trace on any worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from .order import Schedule, slots_per_replica


@dataclass(frozen=True)
class Parts:
    """What steps work on. Variables are mirrored: each worker holds its own copy, equal to all others."""

    strategy: Any
    model: Any
    optimizer: Any
    step: Any  # int64: whole steps done, over all epochs
    loss_sum: Any  # float64: of the images seen in this epoch
    correct: Any  # int64: of the images seen in this epoch
    images: Any  # uint8, on each local device
    labels: Any  # int32, on each local device


class Word(NamedTuple):
    """What this worker brings to a chunk's beginning. `length` is heeded from the chief only."""

    stop: bool
    checkpoint: bool
    length: int


class Agreed(NamedTuple):
    """What all workers agreed on, the same on each, and where the chunk has led."""

    stop: bool
    checkpoint: bool
    finite: bool  # False: the step after `step` has a loss or gradients that are not finite
    step: int
    loss_sum: float
    correct: int


class Stepper:
    """Runs chunks of steps, each in one call of TensorFlow. Every worker must call `chunk` equally often."""

    def __init__(self, parts: Parts, schedule: Schedule, chief: bool) -> None:
        self._parts = parts
        self._schedule = schedule
        self._chief = chief
        self._slots = slots_per_replica(schedule.batch, parts.strategy.num_replicas_in_sync)
        self._chunk = tf.function(self._traced_chunk, autograph=False)

    def chunk(self, order: Any, word: Word) -> Agreed:
        """Agree, then do the agreed number of steps (none if any worker asks for a stop or a checkpoint).

        `order` is the permutation of the epoch as an int32 tensor; a chunk must not go beyond its epoch. Blocks until
        all workers have called. Raises tf.errors.OpError if a peer is gone; state is then that of a whole step.
        """
        brought = tf.constant([word.stop, word.checkpoint, word.length if self._chief else 0], tf.float32)
        results = self._chunk(self._parts.images, self._parts.labels, order, brought)
        agreed, finite, step, loss_sum, correct = (result.numpy() for result in results)
        return Agreed(bool(agreed[0] > 0), bool(agreed[1] > 0), bool(finite), int(step), float(loss_sum), int(correct))

    def _traced_chunk(self, images: Any, labels: Any, order: Any, brought: Any) -> Any:
        parts = self._parts
        agreed = self._first(parts.strategy.run(self._agree, args=(brought,)))
        length = tf.where(agreed[0] + agreed[1] > 0, 0, tf.cast(agreed[2], tf.int32))

        def body(done: Any, finite: Any) -> Any:
            reduced = parts.strategy.run(self._reduce, args=(images, labels, order))
            finite = self._all_finite(reduced)
            finite = tf.cond(finite, lambda: self._commit(reduced), lambda: tf.constant(False))
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
        of_first = tf.where(tf.equal(context.replica_id_in_sync_group, 0), brought[2], 0.0)
        word = tf.stack([brought[0], brought[1], of_first])
        return context.all_reduce(tf.distribute.ReduceOp.SUM, word)

    def _reduce(self, images: Any, labels: Any, order: Any) -> Any:
        """One replica's share of a step. Returns the cluster's sums: gradients, and [loss, correct answers]."""
        context = tf.distribute.get_replica_context()
        place = tf.cast(self._parts.step.read_value() % self._schedule.steps_per_epoch, tf.int32)
        start = place * self._schedule.batch
        real = tf.minimum(self._schedule.batch, self._schedule.images - start)
        slot = context.replica_id_in_sync_group * self._slots + tf.range(self._slots)
        index = tf.gather(order, start + tf.minimum(slot, real - 1))
        weight = tf.cast(slot < real, tf.float32)
        x = tf.cast(tf.gather(images, index), tf.float32) / 255.0
        y = tf.gather(labels, index)
        variables = self._parts.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._parts.model(x, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits) * weight
            loss = tf.reduce_sum(losses) / tf.cast(real, tf.float32)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        right = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), y), tf.float32) * weight
        statistics = tf.stack([tf.reduce_sum(losses), tf.reduce_sum(right)])
        return context.all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, statistics])

    def _all_finite(self, reduced: Any) -> Any:
        """Whether every sum is finite. Depends on all sums of all local replicas: nothing is committed before."""
        every = [value for each in reduced for value in self._parts.strategy.experimental_local_results(each)]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in every])

    def _commit(self, reduced: Any) -> Any:
        self._parts.strategy.run(self._assign, args=(reduced,))
        return tf.constant(True)

    def _assign(self, reduced: Any) -> None:
        *gradients, statistics = reduced
        parts = self._parts
        done = parts.step.read_value()
        first = tf.equal(done % self._schedule.steps_per_epoch, 0)
        loss_sum = tf.where(first, tf.zeros((), tf.float64), parts.loss_sum.read_value())
        correct = tf.where(first, tf.zeros((), tf.int64), parts.correct.read_value())
        parts.optimizer.apply(gradients, parts.model.trainable_variables)
        parts.loss_sum.assign(loss_sum + tf.cast(statistics[0], tf.float64))
        parts.correct.assign(correct + tf.cast(statistics[1], tf.int64))
        parts.step.assign(done + 1)

    def _first(self, value: Any) -> Any:
        return self._parts.strategy.experimental_local_results(value)[0]
