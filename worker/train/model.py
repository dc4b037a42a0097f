"""The model. Every rank builds the same, under the strategy's scope or plain to be saved."""

from __future__ import annotations

from typing import Any

import keras

from . import optimizer
from .loss import Crossentropy
from .settings import Job


def build(job: Job, shape: tuple[int, ...], classes: int) -> keras.Model:
    """The tutorial's CNN: images in [0, 1] → logits. Layers have names of their own, free of Keras's counters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape, name="images"),
            layers.Conv2D(32, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(64, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Conv2D(64, 3, activation="relu", name="conv3"),
            layers.Flatten(name="flatten"),
            layers.Dense(64, activation="relu", name="dense"),
            layers.Dense(classes, name="logits", dtype="float32"),  # mixed policies would round them
        ],
        name=job.model,
    )


def compiled(job: Job, shape: tuple[int, ...], classes: int, weights: list[Any]) -> keras.Model:
    """A plain model with these weights, free of the strategy, ready for `evaluate`, `fit` and `save`."""
    model = build(job, shape, classes)
    model.set_weights(weights)
    model.compile(
        optimizer=optimizer.plain(job),
        loss=Crossentropy(job).as_keras(),
        metrics=["accuracy"],
    )
    return model
