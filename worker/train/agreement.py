"""Whether all workers hold the same weights and mean to do the same with them, compared on the device.

Every replica hashes its own copy of the state; the hashes of all come together in one small sum, so that each worker
sees who differs. A difference that nobody looks for (a bit that flipped, an operation that is not deterministic) would
end in a checkpoint that only one worker has trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from .errors import TrainError
from .majority import outliers

_PIECE_BITS = 16  # a sum with zeros is exact in float32, which every device can reduce
_PIECES = 64 // _PIECE_BITS
_TOGETHER = 1 << 20  # numbers: 8 MB
_MIX = 0x1E3779B97F4A7C15
_SIGNED_OF = {1: tf.int8, 2: tf.int16, 4: tf.int32, 8: tf.int64}


class Held(NamedTuple):
    """What each replica of the cluster brought, in rank order."""

    plans: list[int]
    weights: list[int]


class Agreement:
    """Compares, between two chunks. Every worker must call `check` equally often; it blocks until all have."""

    def __init__(self, strategy: Any, variables: Sequence[Any], workers: int) -> None:
        self._strategy = strategy
        self._variables = list(variables)
        self._replicas = strategy.num_replicas_in_sync
        self._per_worker = self._replicas // workers
        self._call = tf.function(self._traced_call, autograph=False)

    def check(self, plan: int, step: int) -> None:
        """Raises TrainError (`cluster`), on all workers alike, if this worker's plan (64 bits) or weights differ."""
        held = self._gather(plan)
        if ranks := self._ranks(held.plans):
            raise TrainError(
                "cluster",
                f"the workers do not agree on data, settings, versions or the checkpoint to go on from: {_name(ranks)}",
                hint="give every host the same data and the same versions of TensorFlow and Keras",
                differs=ranks[0],
            )
        if ranks := self._ranks(held.weights):
            raise TrainError(
                "cluster",
                f"the workers' weights are not the same after step {step}: {_name(ranks)}; this step is not saved",
                hint="resume from the checkpoint before; if it happens again, suspect the memory or GPU of that host",
                step=step,
                differs=ranks[0],
            )

    def farewell(self) -> None:
        """Wait until all workers have what they need of each other, before any leaves; blocks until all call it.

        A collective ends on one worker before it does on another, and one that leaves in between looks dead.
        """
        with contextlib.suppress(tf.errors.OpError):  # someone has left: all had come this far
            self._gather(0)

    def _ranks(self, digests: list[int]) -> list[int]:
        return sorted({place // self._per_worker for place in outliers(digests)})

    def _gather(self, plan: int) -> Held:
        signed = plan - (1 << 64) if plan >> 63 else plan
        table = self._call(tf.constant(signed, tf.int64)).numpy().reshape(self._replicas, 2, _PIECES)
        numbers = [[_joined(pieces) for pieces in row] for row in table]
        return Held([row[0] for row in numbers], [row[1] for row in numbers])

    def _traced_call(self, plan: Any) -> Any:
        gathered = self._strategy.run(self._row, args=(plan,))
        return self._strategy.experimental_local_results(gathered)[0]

    def _row(self, plan: Any) -> Any:
        context = tf.distribute.get_replica_context()
        pieces = tf.concat([_pieces(plan), _pieces(self._digest())], 0)
        mine = tf.one_hot(context.replica_id_in_sync_group, self._replicas)
        table = tf.reshape(mine[:, tf.newaxis] * pieces[tf.newaxis, :], [-1])
        return context.all_reduce(tf.distribute.ReduceOp.SUM, table)

    def _digest(self) -> Any:
        """A sum, modulo 2^64, of all bits, each number times an odd one of its own: one bit changed always shows."""
        total, place = tf.zeros((), tf.int64), 0
        for numbers in _vectors(self._variables):
            count = int(numbers.shape[0])
            odd = tf.bitwise.bitwise_or(tf.range(place, place + count, dtype=tf.int64) * _MIX, tf.ones((), tf.int64))
            total += tf.reduce_sum(numbers * odd)
            place += count
        return total


def _vectors(variables: Sequence[Any]) -> Iterator[Any]:
    """All bits as vectors of int64, in their order. Small variables come together: each op takes time to be traced,
    which every start waits for. Large ones come alone: a vector of all would take twice the memory of the model."""
    together: list[Any] = []
    for variable in variables:
        numbers = _numbers(tf.convert_to_tensor(variable))
        size = int(numbers.shape[0])
        if together and size + sum(int(one.shape[0]) for one in together) > _TOGETHER:
            yield tf.concat(together, 0)
            together = []
        together.append(numbers)
    if together:
        yield tf.concat(together, 0)


def _numbers(value: Any) -> Any:
    """Its bits as a vector of int64."""
    whole = tf.cast(value, tf.int8) if value.dtype == tf.bool else tf.bitcast(value, _SIGNED_OF[value.dtype.size])
    return tf.cast(tf.reshape(whole, [-1]), tf.int64)


def _pieces(number: Any) -> Any:
    shifts = tf.range(0, 64, _PIECE_BITS, dtype=tf.int64)
    shifted = tf.bitwise.right_shift(number, shifts)
    return tf.cast(tf.bitwise.bitwise_and(shifted, tf.constant((1 << _PIECE_BITS) - 1, tf.int64)), tf.float32)


def _joined(pieces: Any) -> int:
    return sum(int(piece) << (_PIECE_BITS * place) for place, piece in enumerate(pieces))


def _name(ranks: Sequence[int]) -> str:
    numbers = ", ".join(map(str, ranks))
    return f"rank {numbers} differs from the others" if len(ranks) == 1 else f"ranks {numbers} differ from the others"
