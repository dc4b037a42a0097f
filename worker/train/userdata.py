"""What a user's `dataset` function returns, checked. NumPy only; the function itself may use what it likes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .datasets import Arrays
from .userfunction import UserFunction

KEYS = ("x_train", "y_train", "x_test", "y_test")
RETURNS = f"the arrays ({', '.join(KEYS)}), as a tuple or as a dict"
_MAX_CLASSES = 1 << 20  # labels beyond this are numbers, not classes


def arrays(function: UserFunction, value: Any) -> Arrays:
    """The arrays in what the function returned. Raises TrainError (`data`)."""
    parts = _parts(function, value)
    x_train, y_train, x_test, y_test = (_numbers(function, key, parts[key]) for key in KEYS)
    for x, y, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
        if len(x) != len(y):
            raise function.fault(
                f"x_{part} holds {len(x)} examples and y_{part} holds {len(y)}; each needs one",
                "return as many targets as examples",
            )
    for train, test, part in ((x_train, x_test, "x"), (y_train, y_test, "y")):
        if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
            raise function.fault(
                f"{part}_train has examples of shape {list(train.shape[1:])} and {train.dtype}, "
                f"{part}_test of shape {list(test.shape[1:])} and {test.dtype}",
                "return both in one shape and dtype",
            )
    classes = _classes(y_train, y_test)
    return Arrays(x_train, y_train, x_test, y_test, classes=classes, source=function.name)


def _parts(function: UserFunction, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        missing = [key for key in KEYS if key not in value]
        if missing:
            raise function.fault(
                f"expected {RETURNS}; found a dict with {', '.join(map(str, value)) or 'nothing'}, "
                f"without {', '.join(missing)}",
                f"return a dict with {', '.join(KEYS)}",
            )
        return value
    if isinstance(value, (tuple, list)):
        four = list(value)
        if len(four) == 2 and all(isinstance(part, (tuple, list)) and len(part) == 2 for part in four):
            four = [*four[0], *four[1]]  # as keras.datasets has it
        if len(four) == len(KEYS):
            return dict(zip(KEYS, four, strict=True))
    found = f"{type(value).__name__} of {len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__
    raise function.fault(f"expected {RETURNS}; it returned {found}", "return the four arrays")


def _numbers(function: UserFunction, key: str, value: Any) -> npt.NDArray[Any]:
    """An array as the trainer holds it: float64 as float32, whole targets and int64 as int32, the rest as it is."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise function.fault(f"{key}: expected an array, found {type(value).__name__} ({error})", "stack it") from error
    if array.dtype.kind not in "biuf":
        raise function.fault(
            f"{key}: expected numbers, found {'Python objects' if array.dtype.hasobject else array.dtype}",
            "return arrays of one shape and dtype, for example after `numpy.stack(images)`",
        )
    if not array.ndim or not len(array):
        raise function.fault(f"{key}: expected at least one example, found none", "check what the function reads")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype != np.uint8 or key.startswith("y"):
        low, high = array.min(), array.max()
        if low < -(2**31) or high >= 2**31:
            raise function.fault(f"{key}: expected whole numbers of 32 bits, found {low} … {high}", "make them smaller")
        array = array.astype(np.int32, copy=False)
    array = np.ascontiguousarray(array)
    if key.startswith("y") and array.dtype == np.int32 and array.shape[1:] == (1,):
        array = array.reshape(-1)
    return array


def _classes(y_train: npt.NDArray[Any], y_test: npt.NDArray[Any]) -> int | None:
    """How many classes there are, if the targets are numbers of classes."""
    if y_train.dtype != np.int32 or y_train.ndim != 1 or min(y_train.min(), y_test.min()) < 0:
        return None
    classes = int(max(y_train.max(), y_test.max())) + 1
    return classes if classes <= _MAX_CLASSES else None
