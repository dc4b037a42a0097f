"""Sums over all replicas of the cluster: one exchange a step, by the way that costs least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Sum = Callable[[Any, list[Any]], list[Any]]  # (replica context, this replica's values) → the cluster's sums


def way_for(strategy: Any, workers: int) -> Sum:
    """How to sum. On CPUs, a ring of two sends half of the values, waits, and sends the other half: two workers that
    send all at once and add for themselves wait once, and send no byte more. The bits are the same: a + b is b + a."""
    devices = strategy.extended.worker_devices
    if workers == 2 and len(devices) == 1 and "CPU" in devices[0].upper():
        return _by_exchange
    return _by_all_reduce


def _by_all_reduce(context: Any, values: list[Any]) -> list[Any]:
    summed: list[Any] = context.all_reduce(tf.distribute.ReduceOp.SUM, values)
    return summed


def _by_exchange(context: Any, values: list[Any]) -> list[Any]:
    gather = _gather_of(context, values)
    if gather is None or any(value.dtype != values[0].dtype or not value.shape.is_fully_defined() for value in values):
        return _by_all_reduce(context, values)
    both = gather(tf.concat([tf.reshape(value, [1, -1]) for value in values], 1))
    parts = tf.split(both[0] + both[1], [value.shape.num_elements() for value in values])
    return [tf.reshape(part, value.shape) for part, value in zip(parts, values, strict=True)]


def _gather_of(context: Any, values: list[Any]) -> Callable[[Any], Any] | None:
    """The gathering of tensors of equal shape. TensorFlow's public `all_gather` compares the shapes first, in a round
    of its own; what lies below it is not public, and may go."""
    try:
        launcher = context.strategy.extended._get_cross_device_ops(values[0])._launchers[0]
        gather = launcher._all_gather
    except (AttributeError, IndexError):
        return None
    return lambda tensor: gather(tensor, None)
