"""One hand-started worker as TensorFlow's multi-worker tutorial has it: TF_CONFIG, tf_keras, `fit`.

    TF_CONFIG=… python -m benchmarks.tf_keras_fit --dataset fashion-mnist --epochs 3 --json worker0.json

Needs tf_keras (Keras 2), since the `fit` of Keras 3 fails under MultiWorkerMirroredStrategy.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf

from worker.train.datasets import load


def main() -> None:
    """Train; every worker writes its numbers if asked to."""
    parser = argparse.ArgumentParser(description="One worker of tf_keras fit.")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    import tf_keras

    tf_keras.utils.set_random_seed(options.seed)
    data = load(options.dataset)
    x_train, x_test = data.x_train.astype("float32") / 255, data.x_test.astype("float32") / 255
    layers = tf_keras.layers
    with strategy.scope():
        model = tf_keras.Sequential(
            [
                layers.Conv2D(32, 3, activation="relu", input_shape=data.x_train.shape[1:]),
                layers.MaxPooling2D(2),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Conv2D(64, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(64, activation="relu"),
                layers.Dense(10),
            ]
        )
        model.compile(
            optimizer=tf_keras.optimizers.Adam(),
            loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    epochs: list[dict[str, Any]] = []
    for epoch in range(options.epochs):
        start = time.monotonic()
        model.fit(x_train, data.y_train, batch_size=options.batch_size, epochs=1, verbose=0)
        seconds = time.monotonic() - start
        epochs.append({"epoch": epoch + 1, "images_per_second": len(x_train) / seconds})
    _, accuracy = model.evaluate(x_test, data.y_test, batch_size=options.batch_size, verbose=0)
    if options.json:
        options.json.write_text(json.dumps({"epochs": epochs, "test_accuracy": accuracy}))


if __name__ == "__main__":
    main()
