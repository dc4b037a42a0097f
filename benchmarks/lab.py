"""`python -m benchmarks.lab`: one rank of the trainer that does its steps in turns, so that clusters can be compared.

It is the product's own loop, session and step; LAUNCHER_LAB, as JSON, says what is different in this one. Each number
that is written to the file `turn` of its folder is one turn; the chief appends how long it took to `turns.jsonl`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from worker.contract import names
from worker.contract.states import WorkerExit
from worker.train import main as trainer

LAB = "LAUNCHER_LAB"
TURN, TURNS = "turn", "turns.jsonl"
POLL_S = 0.001
Do = Callable[[int], None]


def turns(folder: Path) -> Iterator[int]:
    """What is to be done in each turn, as it is asked for, until whoever asks is gone."""
    done, parent = 0, os.getppid()
    while os.getppid() == parent:
        try:
            number, amount = map(int, (folder / TURN).read_text().split())
        except (FileNotFoundError, ValueError):
            number, amount = done, 0
        if number > done:
            done = number
            yield amount
        else:
            time.sleep(POLL_S)


def serve(folder: Path, chief: bool, do: Do) -> None:
    """Do turn after turn until the process is killed, or left alone."""
    for amount in turns(folder):
        start, worked = time.monotonic(), time.process_time()
        do(amount)
        told = {"amount": amount, "seconds": time.monotonic() - start, "cpu": time.process_time() - worked}
        if chief:
            with (folder / TURNS).open("a") as file:
                file.write(json.dumps(told) + "\n")
    os._exit(1)


class _Tf:
    """TensorFlow with some of its functions replaced, for one module's eyes."""

    def __init__(self, real: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Silent:
    """Tells nothing, whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def _ungated(tf: Any) -> _Tf:
    """Weights are assigned as soon as their own gradient is there."""
    return _Tf(tf, cond=lambda predicate, commit, _: (commit(), predicate)[1])


def _dependencies(tf: Any) -> _Tf:
    """The commit waits for all sums, and does not ask what they are."""

    def cond(predicate: Any, commit: Any, _: Any) -> Any:
        with tf.control_dependencies([predicate]):
            commit()
        return predicate

    return _Tf(tf, cond=cond)


def _slices(tf: Any) -> _Tf:
    """A batch is a slice of the data set: what a set that was shuffled beforehand would cost, shuffling left out."""

    def gather(values: Any, index: Any, *rest: Any, **more: Any) -> Any:
        if index.shape.rank == 1 and index.shape[0] is not None and values.dtype in (tf.uint8, tf.int32):
            return values[: index.shape[0]] if values.shape.rank != 1 else tf.gather(values, index, *rest, **more)
        return tf.gather(values, index, *rest, **more)

    return _Tf(tf, gather=gather)


_VARIANTS = {"ungated": _ungated, "dependencies": _dependencies, "slices": _slices}


def _prepare(options: dict[str, Any]) -> Any:
    """Import the trainer, and make it what LAUNCHER_LAB says."""
    import tensorflow as tf

    from worker.train import loop, pace, session, step

    if "inter_op" in options:
        tf.config.threading.set_inter_op_parallelism_threads(options["inter_op"])
    if "bytes_per_pack" in options:
        make = tf.distribute.experimental.CommunicationOptions
        tf.distribute.experimental.CommunicationOptions = lambda **more: make(
            bytes_per_pack=options["bytes_per_pack"], **more
        )
    if "work_s" in options:
        pace.WORK_S = options["work_s"]
    if "variant" in options:
        vars(step)["tf"] = _VARIANTS[options["variant"]](tf)
    if "jit" in options:
        _compile_model(session, tf)
    if "replicas" in options:
        _split_cpu(tf, options["replicas"])
    loop.Loop._walk = lambda self, plan: _walk(self, plan, options)  # type: ignore[method-assign]
    return session


def _compile_model(session: Any, tf: Any) -> None:
    """Forward and backward of the model by XLA."""
    build = session._Session._build

    def built(self: Any, cluster: Any) -> Any:
        parts = build(self, cluster)
        call = tf.function(parts.model.call, jit_compile=True, autograph=False)
        parts.model.call = lambda x, training=None, **_: call(x, training=training)
        return parts

    session._Session._build = built


def _split_cpu(tf: Any, count: int) -> None:
    """Take each worker's CPU for so many devices."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)

    def devices(_: Any, resolver: Any, worker_device: str) -> tuple[tuple[str, ...], str]:  # noqa: ARG001
        return tuple(f"{worker_device}/device:CPU:{number}" for number in range(count)), "CPU"

    CollectiveAllReduceExtended._initialize_local_devices = devices


def _walk(loop: Any, plan: int, options: dict[str, Any]) -> WorkerExit:
    """Instead of the loop's own walk: so many steps a turn, with its checkpoints, without validation."""
    journey, schedule = loop._journey, loop._schedule
    loop._meet(plan)
    if options.get("quiet"):
        loop._teller = _Silent()

    def steps(amount: int) -> None:
        end = journey.step + amount
        while journey.step < end:
            loop._advance()
            if loop._due:
                loop._checkpoint(loop._due, loop._saver.save_or_go_on)
                loop._due = ""
            if journey.awaits_validation(schedule):
                journey.history.append({})

    def evaluate(amount: int) -> None:
        for _ in range(amount):
            loop._evaluator.evaluate()

    folder = Path(os.environ[names.PROGRESS_FILE]).parent.parent
    serve(folder, loop._settings.chief, evaluate if options.get("do") == "evaluate" else steps)
    return WorkerExit.DONE


def _evaluate_plainly(batch: int) -> None:
    """No trainer at all: `model.evaluate` of the same CNN on the whole test set, as a script would do it."""
    import keras

    from worker.train.datasets import load

    data = load(os.environ["LAUNCHER_LAB_DATASET"])
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(data.x_test.shape[1:]),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(data.classes),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    x, y = data.x_test.astype("float32") / 255, data.y_test

    def evaluate(amount: int) -> None:
        for _ in range(amount):
            model.evaluate(x, y, batch_size=batch, verbose=0)

    serve(Path(os.environ[names.PROGRESS_FILE]).parent.parent, True, evaluate)


def main() -> None:
    """Serve turns as LAUNCHER_LAB says."""
    options = json.loads(os.environ[LAB])
    if "plain_evaluate" in options:
        _evaluate_plainly(options["plain_evaluate"])
    trainer._import_session = lambda: _prepare(options)
    sys.exit(trainer.main([]))


if __name__ == "__main__":
    main()
