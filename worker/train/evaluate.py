"""Loss and accuracy over a whole set, sharded over all replicas of the cluster: each image counts exactly once."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from .loss import Crossentropy

BATCH = 128
ROUNDS_PER_CALL = 8  # then all meet: a peer's death shows, and progress can be told


class Score(NamedTuple):
    loss: float
    accuracy: float


class Evaluator:
    """Batch b of the set belongs to replica b mod R: a batch's numbers do not depend on how many workers there are."""

    def __init__(self, strategy: Any, model: Any, loss: Crossentropy, images: Any, labels: Any, count: int) -> None:
        self._strategy = strategy
        self._model = model
        self._loss = loss
        self._images = images
        self._labels = labels
        self._count = count
        self._replicas = strategy.num_replicas_in_sync
        self._rounds = -(-count // (BATCH * self._replicas))
        self._call = tf.function(self._traced_call, autograph=False)

    def evaluate(self, beat: Any = lambda: None) -> Score:
        """The score of the current weights. Every worker must call it; blocks, and calls `beat` now and then."""
        loss = correct = 0.0
        for start in range(0, self._rounds, ROUNDS_PER_CALL):
            stop = min(start + ROUNDS_PER_CALL, self._rounds)
            sums = self._call(self._images, self._labels, tf.constant(start), tf.constant(stop)).numpy()
            loss += float(sums[0])
            correct += float(sums[1])
            beat()
        return Score(loss / self._count, correct / self._count)

    def _traced_call(self, images: Any, labels: Any, start: Any, stop: Any) -> Any:
        sums = self._strategy.run(self._share, args=(images, labels, start, stop))
        return self._strategy.experimental_local_results(sums)[0]

    def _share(self, images: Any, labels: Any, start: Any, stop: Any) -> Any:
        context = tf.distribute.get_replica_context()

        def body(number: Any, sums: Any) -> Any:
            first = (number * self._replicas + context.replica_id_in_sync_group) * BATCH
            place = first + tf.range(BATCH)
            index = tf.minimum(place, self._count - 1)
            weight = tf.cast(place < self._count, tf.float32)
            x = tf.cast(tf.gather(images, index), tf.float32) / 255.0
            y = tf.gather(labels, index)
            logits = self._model(x, training=False)
            losses = self._loss.of_each(y, logits) * weight
            right = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), y), tf.float32) * weight
            found = tf.stack([tf.reduce_sum(losses), tf.reduce_sum(right)])
            return number + 1, sums + tf.cast(found, tf.float64)

        _, sums = tf.while_loop(lambda number, _: number < stop, body, (start, tf.zeros(2, tf.float64)))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
