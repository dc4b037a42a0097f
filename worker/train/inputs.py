"""The data set of this rank, read while TensorFlow is being imported. No TensorFlow here."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from . import datasets
from .errors import TrainError


@dataclass(frozen=True)
class Inputs:
    """The arrays, a digest of all of them, and how long it took to have them."""

    arrays: datasets.Arrays
    digest: str
    seconds: float


def in_background(kind: str, path: str | None) -> Future[Inputs]:
    """Start reading. The result is the Inputs, or raises TrainError (`data`).

    Reading and unpacking leave the interpreter to the main thread's import most of the time.
    """
    future: Future[Inputs] = Future()

    def read() -> None:
        try:
            future.set_result(_read(kind, path))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=read, daemon=True).start()
    return future


def _read(kind: str, path: str | None) -> Inputs:
    start = time.monotonic()
    try:
        arrays = datasets.load(kind, path)
    except datasets.DataError as error:
        raise TrainError("data", error.message, hint=error.hint) from error
    digest = data_digest(arrays.x_train, arrays.y_train, arrays.x_test, arrays.y_test)
    return Inputs(arrays, digest, time.monotonic() - start)


def data_digest(*arrays: npt.NDArray[Any]) -> str:
    """A hash of arrays: shapes, dtypes and what is in them."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]
