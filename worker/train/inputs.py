"""What a rank reads before it can train, read while TensorFlow is being imported. No TensorFlow here."""

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
from .checkpoint import Checkpoint, CheckpointError, read
from .errors import TrainError


@dataclass(frozen=True)
class Inputs:
    """The data set, a digest of all of it, the checkpoint to go on from, and how long reading took."""

    arrays: datasets.Arrays
    digest: str
    checkpoint: Checkpoint | None
    seconds: float


def in_background(kind: str, path: str | None, resume: str) -> Future[Inputs]:
    """Start reading; `resume` is a checkpoint's folder or empty. The result is Inputs, or raises TrainError (`data`).

    Reading and unpacking leave the interpreter to the main thread's import most of the time.
    """
    future: Future[Inputs] = Future()

    def read() -> None:
        try:
            future.set_result(_read(kind, path, resume))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=read, daemon=True).start()
    return future


def _read(kind: str, path: str | None, resume: str) -> Inputs:
    start = time.monotonic()
    try:
        arrays = datasets.load(kind, path)
    except datasets.DataError as error:
        raise TrainError("data", error.message, hint=error.hint) from error
    try:
        checkpoint = read(resume) if resume else None
    except CheckpointError as error:
        raise TrainError("data", str(error), hint="resume from another checkpoint") from error
    digest = data_digest(arrays.x_train, arrays.y_train, arrays.x_test, arrays.y_test)
    return Inputs(arrays, digest, checkpoint, time.monotonic() - start)


def data_digest(*arrays: npt.NDArray[Any]) -> str:
    """A hash of arrays: shapes, dtypes and what is in them."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]
