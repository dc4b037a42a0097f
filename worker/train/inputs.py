"""What a rank reads before it can train, read while TensorFlow is being imported. No TensorFlow here."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

import numpy as np

from . import datasets
from .checkpoint import Checkpoint, CheckpointError, read
from .errors import TrainError


@dataclass(frozen=True)
class Inputs:
    """The data set, a digest of all of it, the checkpoint to go on from, and how long reading took.

    A data set that a user's function makes is not read here: the function may use TensorFlow, and comes later.
    """

    arrays: datasets.Arrays | None
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
        arrays = None if kind == "function" else datasets.load(kind, path)
    except datasets.DataError as error:
        raise TrainError("data", error.message, hint=error.hint) from error
    try:
        checkpoint = read(resume) if resume else None
    except CheckpointError as error:
        raise TrainError("data", str(error), hint="resume from another checkpoint") from error
    return Inputs(arrays, data_digest(arrays) if arrays else "", checkpoint, time.monotonic() - start)


def data_digest(data: datasets.Arrays) -> str:
    """A hash of a data set: shapes, dtypes and what is in the arrays."""
    digest = hashlib.sha256()
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]
