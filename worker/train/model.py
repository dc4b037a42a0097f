"""The model. Every rank builds the same, under the strategy's scope or plain to be saved."""

from __future__ import annotations

from typing import Any, Protocol

import keras

from .beside import Beside
from .datasets import Arrays
from .errors import TrainError
from .loss import Crossentropy
from .objective import Objective
from .settings import Job

SIDE = 18  # the least that three convolutions and two poolings leave something of


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


class Blueprint(Protocol):
    """A kind of model: what is known of it before it is built under the strategy."""

    objective: Objective

    @property
    def splits(self) -> list[str]:
        """What of it depends on how a batch is split over replicas: none for the same mathematics everywhere."""

    @property
    def identity(self) -> dict[str, Any]:
        """What belongs to the run's identity beside the model's name."""

    def build(self) -> tuple[keras.Model, Beside]:
        """The model to train; call it in the strategy's scope."""

    def to_save(self, weights: list[Any], optimizer: Any) -> keras.Model:
        """A plain model with these weights, ready for `evaluate`, `fit` and `save`."""


class Cnn:
    """The built-in model. Raises TrainError if the data are no images of classes."""

    def __init__(self, job: Job, arrays: Arrays) -> None:
        shape, classes = arrays.x_train.shape[1:], arrays.classes
        if len(shape) != 3 or min(shape[:2]) < SIDE or classes is None:
            raise TrainError(
                "data",
                f"the model cnn needs images of shape [height, width, channels], at least {SIDE}×{SIDE}, and whole "
                f"numbers as labels; {arrays.source} has examples of shape {list(shape)} and targets of "
                f"{arrays.y_train.dtype} {list(arrays.y_train.shape[1:])}",
                hint="write a model of your own for such data: `model: package.module:function`",
            )
        self._job = job
        self._shape, self._classes = shape, classes
        self.objective = Objective(Crossentropy(job.loss))
        self.splits: list[str] = []
        self.identity: dict[str, Any] = {}

    def build(self) -> tuple[keras.Model, Beside]:
        net = build(self._job, self._shape, self._classes)
        return net, Beside(net)

    def to_save(self, weights: list[Any], optimizer: Any) -> keras.Model:
        model = build(self._job, self._shape, self._classes)
        model.set_weights(weights)
        self.objective.compile(model, optimizer)
        return model
