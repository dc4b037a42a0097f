"""The optimizer, for the step (its gradients are sums already) and plain, for the model that is saved."""

from __future__ import annotations

from typing import Any

import keras

from .errors import TrainError
from .settings import Job


def plain(job: Job) -> keras.optimizers.Optimizer:
    """The optimizer as Keras makes it."""
    return type(keras.optimizers.get(job.optimizer))(learning_rate=job.learning_rate)


def summed(job: Job) -> keras.optimizers.Optimizer:
    """The optimizer, taught that the gradients it is given are sums over all replicas already.

    Its own summation would come after its first assignments; ours comes before any (see `step`).
    """
    made = plain(job)
    if not hasattr(made, "_all_reduce_sum_gradients"):
        raise TrainError(
            "environment",
            f"Keras {keras.__version__} sums gradients in a way that this trainer does not know",
            hint="install a Keras release that the package's metadata allows",
        )
    made._all_reduce_sum_gradients = _as_they_are
    return made


def _as_they_are(grads_and_vars: Any) -> Any:
    return grads_and_vars
