"""Models and data as a user would write them. Tests copy this file into the user's folder under another name."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("tests")
class Counting(keras.layers.Layer):  # type: ignore[misc]
    """Counts how often it was used in training: whole numbers beside the weights."""

    def build(self, _: Any) -> None:
        self.count = self.add_weight(name="count", shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.count.assign_add(1)
        return x


def split(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """BatchNorm, Dropout, a counter, and a softmax at the end; not compiled."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.4),
            Counting(),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def measured(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The same, compiled with metrics."""
    model = split(input_shape, classes)
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")]
    model.compile(loss="sparse_categorical_crossentropy", metrics=metrics)
    return model


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):  # type: ignore[misc]
    """A variable of its own, layers of its own, a regularizer."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.hidden = keras.layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01))
        self.out = keras.layers.Dense(3)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x)) * self.scale


def subclassed() -> keras.Model:
    model = Subclassed()
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")]
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=metrics)
    return model


class Unsavable(keras.Sequential):  # type: ignore[misc]
    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError("it has no config")


def unsavable(input_shape: tuple[int, ...]) -> keras.Model:
    return Unsavable([keras.Input(input_shape), keras.layers.Dense(3)])


def data(seed: int = 1) -> dict[str, Any]:
    """103 + 37 examples of 6 numbers in 3 classes."""
    random = np.random.RandomState(seed)
    x = random.normal(size=(140, 6))
    y = (x @ random.normal(size=(6, 3))).argmax(1)
    return {"x_train": x[:103], "y_train": y[:103], "x_test": x[103:], "y_test": y[103:]}


def own_loss_and_the_specs(input_shape: tuple[int, ...]) -> keras.Model:
    model = keras.Sequential([keras.Input(input_shape), keras.layers.Dense(3)])
    model.compile(loss="sparse_categorical_crossentropy")
    return model


def raises() -> keras.Model:
    raise ValueError("no such\nfile")


def returns_text() -> Any:
    return "model"


def two_outputs(input_shape: tuple[int, ...]) -> keras.Model:
    x = keras.Input(input_shape)
    return keras.Model(x, [keras.layers.Dense(3)(x), keras.layers.Dense(2)(x)])


class OwnStep(keras.Sequential):  # type: ignore[misc]
    def train_step(self, _: Any) -> dict[str, Any]:
        return {}


def own_step(input_shape: tuple[int, ...]) -> keras.Model:
    return OwnStep([keras.Input(input_shape), keras.layers.Dense(3)])


class Largest(keras.metrics.Metric):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="largest")
        self.value = self.add_variable((), "zeros")

    def update_state(self, _: Any, y_pred: Any) -> None:
        self.value.assign(tf.maximum(self.value, tf.reduce_max(tf.abs(y_pred))))

    def result(self) -> Any:
        return self.value


def no_sum(input_shape: tuple[int, ...]) -> keras.Model:
    model = keras.Sequential([keras.Input(input_shape), keras.layers.Dense(3)])
    model.compile(loss="mse", metrics=[Largest()])
    return model


class Noise(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x + keras.random.normal(tf.shape(x))


def unseeded(input_shape: tuple[int, ...]) -> keras.Model:
    return keras.Sequential([keras.Input(input_shape), Noise(), keras.layers.Dense(3)])


def too_few(input_shape: tuple[int, ...]) -> keras.Model:
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(2)])


def one_number(input_shape: tuple[int, ...]) -> keras.Model:
    model = keras.Sequential([keras.Input(input_shape), keras.layers.Dense(1)])
    model.compile(loss=lambda y, p: tf.reduce_mean(tf.square(tf.cast(y, tf.float32) - p[:, 0])))
    return model


def _pipeline(x: Any, y: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((x, y))


def stream(seed: int = 1) -> dict[str, Any]:
    """The same data as `data`, as pipelines in the very order in which arrays are gone through."""
    arrays = data(seed)

    def train(seed: int, epoch: int) -> tf.data.Dataset:
        order = np.random.RandomState([seed, epoch]).permutation(103)
        return _pipeline(arrays["x_train"][order], arrays["y_train"][order])

    return {"train": train, "test": lambda: _pipeline(arrays["x_test"], arrays["y_test"]), "classes": 3}


class Shuffled:
    """Pipelines that say nothing of order, and do not know their length."""

    classes = 3
    train_size, test_size = 103, 37

    def __init__(self) -> None:
        self.arrays = data()

    def train(self) -> tf.data.Dataset:
        return _pipeline(self.arrays["x_train"], self.arrays["y_train"]).filter(lambda x, _: tf.reduce_all(x < 100))

    def test(self) -> tf.data.Dataset:
        return _pipeline(self.arrays["x_test"], self.arrays["y_test"]).filter(lambda x, _: tf.reduce_all(x < 100))


def batched() -> dict[str, Any]:
    arrays = data()
    whole = _pipeline(arrays["x_train"], arrays["y_train"])
    return {"train": lambda: whole.batch(8), "test": lambda: whole}


def endless() -> dict[str, Any]:
    arrays = data()
    whole = _pipeline(arrays["x_train"], arrays["y_train"])
    return {"train": lambda: whole.repeat(), "test": lambda: whole}
