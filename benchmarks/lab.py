"""`python -m benchmarks.lab`: one rank of the trainer that does its steps in turns, so that clusters can be compared.

It is the product's own loop, session and step; LAUNCHER_LAB, as JSON, says what is different in this one. Each number
that is written to the pipe `turn<rank>` of its folder is one turn; the chief appends how long it took to `turns.jsonl`.
"""

from __future__ import annotations

import json
import os
import select
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
Do = Callable[[int], None]


def turns(folder: Path) -> Iterator[int]:
    """What is to be done in each turn, as it is asked for, until whoever asks is gone. Waiting costs nothing."""
    parent = os.getppid()
    pipe = folder / f"{TURN}{os.environ[names.RANK]}"
    temporary = pipe.with_suffix(".new")
    os.mkfifo(temporary)
    asked = os.open(temporary, os.O_RDWR)
    temporary.rename(pipe)
    waiting = b""
    while os.getppid() == parent:
        if select.select([asked], [], [], 1.0)[0]:
            waiting += os.read(asked, 4096)
        *lines, waiting = waiting.split(b"\n")
        yield from map(int, lines)


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


def _with_context(tf: Any, reduce: Callable[[Any, Any, Any], Any]) -> _Tf:
    """What replicas bring together in a step, by another way: `reduce(context, op, values)`."""

    class Context:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def all_reduce(self, op: Any, value: Any) -> Any:
            return reduce(self._real, op, value) if isinstance(value, list) else self._real.all_reduce(op, value)

    distribute = _Tf(tf.distribute, get_replica_context=lambda: Context(tf.distribute.get_replica_context()))
    return _Tf(tf, distribute=distribute)


def _alone(tf: Any) -> _Tf:
    """Nothing is reduced at all: what the steps of two workers would cost if they need not talk."""
    return _with_context(tf, lambda context, op, values: values)  # noqa: ARG005


def _last_first(tf: Any) -> _Tf:
    """Gradients in the order in which they are found."""
    return _with_context(tf, lambda context, op, values: context.all_reduce(op, values[::-1])[::-1])


def _one_flat(tf: Any) -> _Tf:
    """One vector, made and taken apart by ourselves."""

    def reduce(context: Any, op: Any, values: Any) -> Any:
        flat = tf.concat([tf.reshape(value, [-1]) for value in values], 0)
        summed = context.all_reduce(op, flat)
        parts = tf.split(summed, [value.shape.num_elements() for value in values])
        return [tf.reshape(part, value.shape) for part, value in zip(parts, values, strict=True)]

    return _with_context(tf, reduce)


_VARIANTS = {
    "ungated": _ungated,
    "dependencies": _dependencies,
    "slices": _slices,
    "alone": _alone,
    "last_first": _last_first,
    "one_flat": _one_flat,
}


def _prepare(options: dict[str, Any]) -> Any:
    """Import the trainer, and make it what LAUNCHER_LAB says."""
    import tensorflow as tf

    from worker.train import loop, pace, session, step, strategy, sums

    if options.get("ring"):
        sums.way_for = lambda *_: sums._by_all_reduce
    if "spinning" in options:
        from tensorflow.core.protobuf import config_pb2
        from tensorflow.python.eager import context

        context.context()._config = config_pb2.ConfigProto(
            experimental=config_pb2.ConfigProto.Experimental(disable_thread_spinning=not options["spinning"])
        )
    if "bytes_per_pack" in options:
        make = tf.distribute.experimental.CommunicationOptions
        tf.distribute.experimental.CommunicationOptions = lambda **more: make(
            bytes_per_pack=options["bytes_per_pack"], **more
        )
    if "work_s" in options:
        pace.WORK_S = options["work_s"]
    if "variant" in options:
        vars(step)["tf"] = _VARIANTS[options["variant"]](tf)
    if "fused" in options:
        _fuse(session, tf)
    if "jit" in options:
        _compile_model(session, tf)
    if "replicas" in options:
        _split_cpu(tf, options["replicas"])
    if "inter_op" in options:  # after the trainer has said its own
        configure = strategy.configure

        def configured(*given: Any, **more: Any) -> None:
            configure(*given, **more)
            tf.config.threading.set_inter_op_parallelism_threads(options["inter_op"])

        strategy.configure = configured
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


def _fuse(session: Any, tf: Any) -> None:
    """Adam by TensorFlow's own kernel, one call a weight."""
    build = session._Session._build

    def built(self: Any, cluster: Any) -> Any:
        parts = build(self, cluster)
        adam = parts.optimizer

        def local(variable: Any) -> Any:
            return parts.strategy.experimental_local_results(variable.value)[0].handle

        def apply(gradients: Any, variables: Any) -> None:
            count = tf.cast(adam.iterations.value + 1, tf.float32)
            b1, b2 = tf.pow(tf.constant(adam.beta_1), count), tf.pow(tf.constant(adam.beta_2), count)
            for gradient, variable, m, v in zip(gradients, variables, adam._momentums, adam._velocities, strict=True):
                tf.raw_ops.ResourceApplyAdam(
                    var=local(variable),
                    m=local(m),
                    v=local(v),
                    beta1_power=b1,
                    beta2_power=b2,
                    lr=0.001,
                    beta1=adam.beta_1,
                    beta2=adam.beta_2,
                    epsilon=adam.epsilon,
                    grad=gradient,
                )
            adam.iterations.assign_add(1)

        adam.apply = apply
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

    until, last = loop._until, journey.step
    loop._until = lambda: min(until(), last - journey.step)  # no call does more than the turn asks for

    def steps(amount: int) -> None:
        nonlocal last
        end = last = journey.step + amount
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
