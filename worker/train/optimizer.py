"""Keras's optimizer, with its schedule and settings: for the step (its gradients are sums already), and plain."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from ..contract.keras_names import OPTIMIZERS, SCHEDULES
from .errors import TrainError
from .settings import Job, Named


def plain(job: Job) -> keras.optimizers.Optimizer:
    """The optimizer as Keras makes it. Raises TrainError (`environment`) for settings that this Keras does not take."""
    cls = OPTIMIZERS[job.optimizer.name].cls
    settings = {"learning_rate": _rate(job.learning_rate), **job.optimizer.settings}
    return _made(keras.optimizers, cls, job.optimizer.name, settings)


def summed(job: Job) -> keras.optimizers.Optimizer:
    """The optimizer, taught that the gradients it is given are sums over all replicas already.

    Its own summation would come after its first assignments; ours comes before any (see `step`). So what it does to
    gradients, such as clipping, it does to those of the whole batch, as in one process.
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


def _rate(rate: float | Named) -> Any:
    if isinstance(rate, float):
        return rate
    return _made(keras.optimizers.schedules, SCHEDULES[rate.name].cls, rate.name, rate.settings)


def _made(module: Any, cls: str, name: str, settings: Mapping[str, Any]) -> Any:
    """`module.cls(**settings)`, every fault told in words: this Keras may be older or newer than the spec's table."""
    kind = getattr(module, cls, None)
    if kind is None:
        raise TrainError(
            "environment",
            f"Keras {keras.__version__} has no {cls}",
            hint=f"install a newer Keras, or choose another than `{name}`",
        )
    known = [key for key in inspect.signature(kind).parameters if key not in ("name", "kwargs")]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise TrainError(
            "environment",
            f"{name} of Keras {keras.__version__} has no setting {', '.join(f'`{key}`' for key in unknown)}",
            hint=f"its settings are {', '.join(known)}",
        )
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:500]
        raise TrainError(
            "environment", f"Keras refuses the settings of {name}: {first}", hint=f"its settings are {', '.join(known)}"
        ) from error
