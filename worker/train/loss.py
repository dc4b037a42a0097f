"""Cross-entropy of classes, as one of Keras's losses over logits. Targets are the numbers of the classes."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ..contract.keras_names import LOSSES
from .settings import Job, Named

DEFAULT = Named("sparse_categorical_crossentropy", {})


class Crossentropy:
    """The loss that a job asks for, by images, and as Keras knows it."""

    def __init__(self, job: Job) -> None:
        self._loss = job.loss or DEFAULT
        self._whole = self._loss.name == DEFAULT.name  # targets go to Keras as they are

    def of_each(self, y: Any, logits: Any) -> Any:
        """The loss of each image, float32 [n], from classes int32 [n] and logits [n, classes] of any float."""
        logits = tf.cast(logits, tf.float32)
        if self._whole:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        targets = tf.one_hot(y, logits.shape[-1], dtype=tf.float32)
        return self.as_keras(reduction="none")(targets, logits)

    def as_keras(self, reduction: str = "sum_over_batch_size") -> keras.losses.Loss:
        """What a model is compiled with. All but the sparse one want targets one-hot, as ever in Keras."""
        kind = getattr(keras.losses, LOSSES[self._loss.name].cls)
        # In float32 whatever the policy says: under mixed_float16 Keras would compute the loss in halves.
        return kind(from_logits=True, reduction=reduction, dtype="float32", **self._loss.settings)
