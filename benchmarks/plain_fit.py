"""The plain one-process script, as every tutorial has it: MirroredStrategy and model.fit. All comparisons use it.

    python -m benchmarks.plain_fit --dataset fashion-mnist --epochs 5 --json plain.json

It is told how fast it is by a callback that does nothing per batch but compare two numbers; `verbose=2` spares it the
progress bar.
"""

import time

STARTED = time.time()

import argparse  # noqa: E402
import json  # noqa: E402
from typing import Any  # noqa: E402

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from worker.train.datasets import load  # noqa: E402


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes when the first step is done, and how long the training of each epoch takes without its validation."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.first_step_s: float | None = None
        self.epochs: list[dict[str, Any]] = []

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.time()
        self.trained: float | None = None

    # The first step is done when the second begins: a hook on the end of a batch would slow Keras down.
    def on_train_batch_begin(self, batch: int, **_: Any) -> None:
        if batch == 1 and self.first_step_s is None:
            self.first_step_s = time.time() - STARTED

    def on_test_begin(self, *_: Any, **__: Any) -> None:
        self.trained = time.time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.time()
        trained = self.trained or now
        self.epochs.append(
            {
                "epoch": epoch + 1,
                **{name: float(value) for name, value in (logs or {}).items()},
                "seconds": now - self.began,
                "training_seconds": trained - self.began,
                "images_per_second": self.images / (trained - self.began),
                "images_per_second_with_validation": self.images / (now - self.began),
            }
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the tutorial CNN in one process with model.fit.")
    parser.add_argument("--dataset", choices=["fashion-mnist", "fashion-mnist-mini"], default="fashion-mnist")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write what was measured here")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    keras.utils.set_random_seed(options.seed)

    data = load(options.dataset)
    x_train, x_test = data.x_train.astype("float32") / 255, data.x_test.astype("float32") / 255
    y_train, y_test = data.y_train, data.y_test

    strategy = tf.distribute.MirroredStrategy()
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.Conv2D(32, 3, activation="relu"),
                keras.layers.MaxPooling2D(2),
                keras.layers.Conv2D(64, 3, activation="relu"),
                keras.layers.MaxPooling2D(2),
                keras.layers.Conv2D(64, 3, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(10),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.Adam(),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )

    clock = Clock(len(x_train))
    model.fit(
        x_train,
        y_train,
        batch_size=options.batch_size,
        epochs=options.epochs,
        validation_data=(x_test, y_test),
        callbacks=[clock],
        verbose=2,
    )
    test_loss, test_accuracy = model.evaluate(x_test, y_test, verbose=0)

    result = {
        "dataset": options.dataset,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "replicas": strategy.num_replicas_in_sync,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "started_at": STARTED,
        "time_to_first_step_s": clock.first_step_s,
        "epochs": clock.epochs,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
    }
    for epoch in clock.epochs:
        print(
            f"epoch {epoch['epoch']}: {epoch['images_per_second']:.0f} images/s, "
            f"{epoch['images_per_second_with_validation']:.0f} with validation"
        )
    print(f"first step after {clock.first_step_s or 0:.2f} s, test accuracy {test_accuracy:.4f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
