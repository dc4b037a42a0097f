"""What a rank reads before it can train, read while TensorFlow is being imported. No TensorFlow here."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

from . import datasets
from .checkpoint import Checkpoint, CheckpointError, read
from .errors import TrainError
from .stock import Stock


@dataclass(frozen=True)
class Inputs:
    """The data set, a digest of all of it, the checkpoint to go on from, and how long reading took.

    A data set that a user's function makes is not read here: the function may use TensorFlow, and comes later.
    """

    arrays: datasets.Arrays | None
    digest: str
    checkpoint: Checkpoint | None
    seconds: float


def in_background(kind: str, path: str | None, resume: str, stock: Stock | None = None) -> Future[Inputs]:
    """Start reading; `resume` is a checkpoint's folder or empty. The result is Inputs, or raises TrainError (`data`).
    What is in stock is not read again.

    Reading and unpacking leave the interpreter to the main thread's import most of the time.
    """
    future: Future[Inputs] = Future()

    def read() -> None:
        try:
            future.set_result(_read(kind, path, resume, stock))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=read, daemon=True).start()
    return future


def _read(kind: str, path: str | None, resume: str, stock: Stock | None) -> Inputs:
    start = time.monotonic()
    try:
        arrays, digest = _data(kind, path, stock)
    except datasets.DataError as error:
        raise TrainError("data", error.message, hint=error.hint) from error
    try:
        checkpoint = read(resume) if resume else None
    except CheckpointError as error:
        raise TrainError("data", str(error), hint="resume from another checkpoint") from error
    return Inputs(arrays, digest, checkpoint, time.monotonic() - start)


def _data(kind: str, path: str | None, stock: Stock | None) -> tuple[datasets.Arrays | None, str]:
    if kind == "function":
        return None, ""
    if stock is not None and stock.serves(kind, path):
        return stock.arrays, stock.digest
    arrays = datasets.load(kind, path)
    return arrays, datasets.digest(arrays)
