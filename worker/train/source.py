"""Where a step's images come from. What they are depends on the schedule and the seed alone."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

from . import order
from .order import Schedule
from .strategy import local_devices

NO_LIMIT = 2**31 - 1


class Source(Protocol):
    """What a chunk of steps is fed with: tensors at its beginning, and for each step the places of its images there."""

    @property
    def most(self) -> int:
        """The most steps that a chunk may have."""

    def arguments(self, step: int) -> tuple[Any, Any, Any]:
        """(images, labels, order) for a chunk that begins after `step` whole steps; the first two on each device."""

    def index(self, order: Any, done: Any, start: Any, slot: Any, real: Any) -> Any:
        """The places in `images` of the given slots of a step, in the graph. Slots from `real` on are padding."""


class Held:
    """All images as a tensor on every device, gathered by the order of the epoch."""

    most = NO_LIMIT

    def __init__(self, cluster: Any, images: Any, labels: Any, seed: int, schedule: Schedule) -> None:
        self._images, self._labels = on_each_device(cluster, images), on_each_device(cluster, labels)
        self._seed = seed
        self._schedule = schedule
        self._order: Any = None
        self._order_of = 0  # the epoch that `_order` belongs to

    def arguments(self, step: int) -> tuple[Any, Any, Any]:
        epoch = min(self._schedule.epoch_of(step), self._schedule.epochs)
        if self._order_of != epoch:
            self._order = tf.constant(order.permutation(self._seed, epoch, self._schedule.images))
            self._order_of = epoch
        return self._images, self._labels, self._order

    def index(self, order: Any, done: Any, start: Any, slot: Any, real: Any) -> Any:  # noqa: ARG002 - as all sources
        return tf.gather(order, start + tf.minimum(slot, real - 1))


def on_each_device(cluster: Any, array: Any) -> Any:
    """The array as a tensor on every local device: a replica that gathers from another's would copy it each step."""
    devices = iter(local_devices(cluster))

    def on_next(_: Any) -> Any:
        with tf.device(next(devices)):
            return tf.identity(tf.constant(array))

    return cluster.experimental_distribute_values_from_function(on_next)
