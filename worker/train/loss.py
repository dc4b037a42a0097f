"""Cross-entropy of classes, as one of Keras's losses. Targets are the numbers of the classes."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ..contract.keras_names import LOSSES
from .settings import Named

DEFAULT = Named("sparse_categorical_crossentropy", {})


class Crossentropy:
    """The loss that a job asks for, by images, and as Keras knows it. Outputs are logits, or else probabilities."""

    def __init__(self, loss: Named | None, from_logits: bool = True) -> None:
        self._loss = loss or DEFAULT
        self._whole = self._loss.name == DEFAULT.name  # targets go to Keras as they are
        self._from_logits = from_logits

    def of_each(self, y: Any, outputs: Any) -> Any:
        """The loss of each image, float32 [n], from classes int32 [n] and outputs [n, classes] of any float."""
        outputs = tf.cast(outputs, tf.float32)  # under mixed precision a softmax in halves underflows
        if self._whole and self._from_logits:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs)
        targets = y if self._whole else tf.one_hot(y, outputs.shape[-1], dtype=tf.float32)
        return self.as_keras(reduction="none")(targets, outputs)

    def as_keras(self, reduction: str = "sum_over_batch_size") -> keras.losses.Loss:
        """What a model is compiled with. All but the sparse one want targets one-hot, as ever in Keras."""
        kind = getattr(keras.losses, LOSSES[self._loss.name].cls)
        # In float32 whatever the policy says: under mixed_float16 Keras would compute the loss in halves.
        return kind(from_logits=self._from_logits, reduction=reduction, dtype="float32", **self._loss.settings)
