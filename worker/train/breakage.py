"""What an exception out of TensorFlow means for this rank."""

from __future__ import annotations

import tensorflow as tf

from .errors import TrainError
from .essence import essence, task_of

# What a collective raises when a peer died, froze or left; none of them comes from this rank's own arithmetic.
_PEER = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
    tf.errors.AbortedError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)
_SECOND_HAND = (
    "Collective ops is aborted"  # TensorFlow passes a peer's own error on with these words, whatever its kind
)


def explain(error: tf.errors.OpError, workers: int, deterministic: bool) -> TrainError:
    """The TrainError that tells a user about it; its reason is `peer` if another worker is the cause."""
    text = str(error.message).strip()
    first = essence(text) or type(error).__name__
    if isinstance(error, tf.errors.UnimplementedError) and deterministic and "etermini" in text:
        return TrainError(
            "environment",
            f"an operation has no deterministic form on this device: {first}",
            hint="write `deterministic: false` under `train:` to train without the promise of equal bits",
        )
    if workers > 1 and (isinstance(error, _PEER) or _SECOND_HAND in text):
        task = task_of(text)
        heard = "" if task is None else f" (heard from rank {task})"
        return TrainError("peer", f"a worker of the cluster is gone: {first}{heard}")
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return TrainError("error", f"out of memory: {first}", hint="lower batch_size, or use more workers")
    return TrainError("error", f"TensorFlow: {type(error).__name__}: {first}")
