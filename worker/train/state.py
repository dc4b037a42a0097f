"""The state of training as named arrays, and back. Names follow the structure, never Keras's process-wide counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .checkpoint import Arrays, CheckpointError
from .step import Parts

STEP = "step"


def named_variables(parts: Parts) -> dict[str, Any]:
    """Every variable that must survive, by its place: `model/0/0.kernel`, `optimizer/3`, `epoch/loss_sum`, `step`."""
    named: dict[str, Any] = {}
    for place, layer in enumerate(parts.model.layers):
        for number, variable in enumerate(layer.variables):
            named[f"model/{place}/{number}.{variable.name}"] = variable.value
    covered = {id(variable) for layer in parts.model.layers for variable in layer.variables}
    own = [variable for variable in parts.model.variables if id(variable) not in covered]
    for number, variable in enumerate(own):  # what a subclassed model holds itself
        named[f"model/own/{number}.{variable.name}"] = variable.value
    for number, variable in enumerate(parts.metric_sums):
        named[f"epoch/metrics/{number}"] = variable
    for number, variable in enumerate(parts.optimizer.variables):
        named[f"optimizer/{number}"] = variable.value
    if parts.scale is not None:
        named.update(parts.scale.variables)
    return {**named, "epoch/loss_sum": parts.loss_sum, "epoch/correct": parts.correct, STEP: parts.step}


def snapshot(parts: Parts) -> Arrays:
    """A copy of the state, read from this worker's own variables: no peer is asked, so it works without them."""
    return {name: np.array(variable.numpy()) for name, variable in named_variables(parts).items()}


def restore(parts: Parts, arrays: Mapping[str, Any]) -> None:
    """Put a snapshot back. Raises CheckpointError, having changed nothing, if it is of another model or optimizer."""
    variables = named_variables(parts)
    missing, unknown = sorted(set(variables) - set(arrays)), sorted(set(arrays) - set(variables))
    if missing or unknown:
        raise CheckpointError(
            "it is of another model or optimizer: "
            f"missing are {', '.join(missing[:5]) or 'none'}, not expected {', '.join(unknown[:5]) or 'none'}"
        )
    for name, variable in variables.items():
        expected = (tuple(variable.shape), variable.dtype.as_numpy_dtype)
        found = (arrays[name].shape, arrays[name].dtype)
        if found != expected:
            raise CheckpointError(
                f"{name}: expected shape {expected[0]} of {np.dtype(expected[1])}, found {found[0]} of {found[1]}"
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])
