"""Loss and accuracy over a whole set, sharded over all replicas of the cluster: each image counts exactly once."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from .beside import Beside
from .objective import Objective, Share
from .step import prepared

BATCH = 128
ROUNDS_PER_CALL = 8  # then all meet: a peer's death shows, and progress can be told


class Score(NamedTuple):
    loss: float
    accuracy: float | None  # None: the targets are not classes
    metrics: dict[str, float | None]


class Evaluator:
    """Batch b of the set belongs to replica b mod R: a batch's numbers do not depend on how many workers there are."""

    def __init__(
        self,
        strategy: Any,
        model: Any,
        objective: Objective,
        beside: Beside,
        images: Any,
        labels: Any,
        count: int,
    ) -> None:
        self._strategy = strategy
        self._model = model
        self._objective = objective
        self._beside = beside
        self._images = images
        self._labels = labels
        self._count = count
        self._replicas = strategy.num_replicas_in_sync
        self._rounds = -(-count // (BATCH * self._replicas))
        self._call = tf.function(self._traced_call, autograph=False)

    def evaluate(self, beat: Any = lambda: None) -> Score:
        """The score of the current weights. Every worker must call it; blocks, and calls `beat` now and then."""
        metrics = self._objective.metrics
        sums: list[Any] = [0.0] * (1 + len(metrics.shapes) if metrics else 1)
        for start in range(0, self._rounds, ROUNDS_PER_CALL):
            stop = min(start + ROUNDS_PER_CALL, self._rounds)
            found = self._call(self._images, self._labels, tf.constant(start), tf.constant(stop))
            sums = [before + more.numpy() for before, more in zip(sums, found, strict=True)]
            beat()
        (loss, correct), *rest = sums
        return Score(
            float(loss) / self._count,
            float(correct) / self._count if self._objective.told_accuracy else None,
            metrics.results(rest) if metrics else {},
        )

    def _traced_call(self, images: Any, labels: Any, start: Any, stop: Any) -> Any:
        sums = self._strategy.run(self._share, args=(images, labels, start, stop))
        return [self._strategy.experimental_local_results(each)[0] for each in sums]

    def _share(self, images: Any, labels: Any, start: Any, stop: Any) -> Any:
        context = tf.distribute.get_replica_context()
        metrics = self._objective.metrics

        def body(number: Any, sums: Any) -> Any:
            first = (number * self._replicas + context.replica_id_in_sync_group) * BATCH
            place = first + tf.range(BATCH)
            index = tf.minimum(place, self._count - 1)
            here = tf.clip_by_value(self._count - first, 0, BATCH)
            with self._beside.scope():
                outputs = self._model(prepared(tf.gather(images, index)), training=False)
                weight = tf.cast(place < self._count, tf.float32)
                share = Share(tf.gather(labels, index), outputs, weight, here, here, 1)
                found = tf.stack([self._objective.total(self._model, share), self._objective.right(share)])
            more = [found, *(metrics.found(share) if metrics else [])]
            return number + 1, [before + tf.cast(one, tf.float64) for before, one in zip(sums, more, strict=True)]

        shapes = [(2,), *(metrics.shapes if metrics else [])]
        zeros = [tf.zeros(shape, tf.float64) for shape in shapes]
        _, sums = tf.while_loop(lambda number, _: number < stop, body, (start, zeros))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
