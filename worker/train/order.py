"""Which images make up which step. Depends on seed, epoch, step and global batch alone, never on how many workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def permutation(seed: int, epoch: int, count: int) -> npt.NDArray[np.int32]:
    """The order of `count` images in an epoch (from 1).

    RandomState, whose streams are frozen (NEP 19): a Generator's may change with the next release of NumPy.
    """
    return np.random.RandomState([seed, epoch]).permutation(count).astype(np.int32)


@dataclass(frozen=True)
class Schedule:
    """Steps and epochs of a run. Steps are counted from 0 over all epochs; the last batch of an epoch may be short."""

    images: int
    batch: int
    epochs: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.images // self.batch)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def epoch_of(self, step: int) -> int:
        """The epoch (from 1) to which the step belongs that comes after `step` whole ones."""
        return step // self.steps_per_epoch + 1

    def seen(self, step: int) -> int:
        """How many images of its epoch the newest of `step` whole steps has completed; 0 at the very start."""
        if not step:
            return 0
        return min(((step - 1) % self.steps_per_epoch + 1) * self.batch, self.images)

    def left_in_epoch(self, step: int) -> int:
        """Steps until the end of the epoch that comes after `step` whole steps: never 0."""
        return self.steps_per_epoch - step % self.steps_per_epoch

    def batch_of(self, order: npt.NDArray[np.int32], step: int) -> npt.NDArray[np.int32]:
        """The images of a step, given its epoch's order. The device does the same sum; tests compare the two."""
        start = step % self.steps_per_epoch * self.batch
        return order[start : start + self.batch]


def slots_per_replica(batch: int, replicas: int) -> int:
    """A batch is split evenly; slots beyond it are padding of weight 0, so that each image counts exactly once."""
    return -(-batch // replicas)
