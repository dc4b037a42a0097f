"""Data larger than memory: a user's `tf.data` pipelines, gone through by every worker, of which each keeps its part.

The element at place p of an epoch belongs to step p // batch, as it does for data in memory. So what a step holds
does not depend on how many workers there are, and a resumed run skips to where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from .datasets import Arrays
from .errors import TrainError
from .order import Schedule, slots_per_replica
from .source import BATCH, ROUNDS_PER_CALL, on_each_device
from .userfunction import UserFunction, told

SHUFFLED = 10_000  # elements that are shuffled among each other if the user's function does not order them itself
_PEEKED = 8
_BYTES = 32 << 20  # of examples that are fed to one chunk of steps
_MOST_STEPS = 64
Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Factory:
    """Two functions that return a tf.data.Dataset of single elements (x, y), and how many elements each has."""

    function: UserFunction
    train: Callable[..., Any]
    test: Callable[..., Any]
    train_size: int
    test_size: int
    ordered: bool  # the user's function orders each epoch itself
    sample: Arrays  # the first few elements
    digest: str

    def epoch(self, seed: int, epoch: int) -> Any:
        """The elements of an epoch in their order, the same on every worker and on every call."""
        drawn = int(np.random.RandomState([seed, epoch]).randint(2**31 - 1))
        keras.utils.set_random_seed(drawn)  # a pipeline that draws without a seed of its own draws from this one
        dataset = _opened(self.function, "train", self.train, {"seed": seed, "epoch": epoch})
        if not self.ordered:
            dataset = dataset.shuffle(min(SHUFFLED, self.train_size), seed=drawn, reshuffle_each_iteration=False)
        return dataset.take(self.train_size)

    def tests(self) -> Any:
        """The elements of the test set."""
        return _opened(self.function, "test", self.test, {}).take(self.test_size)

    def read(self, name: str, dataset: Any) -> Iterator[Pair]:
        """What a pipeline gives. Raises TrainError: its errors are the user's, not a peer's."""
        try:
            yield from dataset.as_numpy_iterator()
        except Exception as error:
            raise self.function.fault(f"reading `{name}` failed: {told(error)}", "mend the pipeline") from error

    def short(self, name: str, size: int) -> TrainError:
        return self.function.fault(
            f"`{name}` ended before the {size} elements that it has by `{name}_size` or its cardinality",
            f"let it give as many each time, or correct `{name}_size`",
        )


def factory(function: UserFunction, value: Any, seed: int) -> Factory | None:
    """The factory that a user's function returned; None if it is none. Raises TrainError for a wrong one."""

    def take(name: str) -> Any:
        return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)

    train, test = take("train"), take("test")
    if not callable(train) or not callable(test):
        return None
    offered = {"seed": seed, "epoch": 1}
    keras.utils.set_random_seed(seed)
    datasets = {
        "train": _opened(function, "train", train, offered),
        "test": _opened(function, "test", test, {}),
    }
    sizes = {name: _size(function, name, dataset, take(f"{name}_size")) for name, dataset in datasets.items()}
    try:
        peeked = list(datasets["train"].take(_PEEKED).as_numpy_iterator())
    except Exception as error:
        raise function.fault(f"reading `train` failed: {told(error)}", "mend the pipeline") from error
    x, y = (np.stack([np.asarray(element[place]) for element in peeked]) for place in (0, 1))
    classes = take("classes")
    if classes is not None and not (isinstance(classes, int) and classes > 0):
        raise function.fault(f"classes: expected a whole number over 0, found {classes!r}", "say how many there are")
    ordered = "epoch" in function.arguments(train, offered)
    digest = hashlib.sha256(f"{sizes} {x.shape} {x.dtype} {y.shape} {y.dtype} {classes} {ordered}".encode())
    return Factory(
        function,
        train,
        test,
        sizes["train"],
        sizes["test"],
        ordered,
        Arrays(x, y, x[:0], y[:0], classes=classes, source=function.name),
        digest.hexdigest()[:32],
    )


def _opened(function: UserFunction, name: str, make: Callable[..., Any], offered: Mapping[str, Any]) -> Any:
    """A pipeline, its elements in the dtypes that the trainer takes."""
    given = function.arguments(make, offered)
    try:
        dataset = make(**given)
    except Exception as error:
        raise function.fault(f"`{name}` raised {told(error)}", "mend the function") from error
    if not isinstance(dataset, tf.data.Dataset):
        raise function.fault(
            f"expected `{name}` to return a tf.data.Dataset, found {type(dataset).__name__}", "return one"
        )
    spec = dataset.element_spec
    if (
        not isinstance(spec, tuple)
        or len(spec) != 2
        or not all(isinstance(part, tf.TensorSpec) and part.shape.is_fully_defined() for part in spec)
    ):
        raise function.fault(
            f"expected `{name}` to have elements (x, y) of a known shape, found {spec}",
            "give single elements, not batches; `tf.ensure_shape` tells a shape",
        )
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = True
    return dataset.map(_held).with_options(options)


def _held(x: Any, y: Any) -> tuple[Any, Any]:
    """Floats as float32 and whole numbers as int32; bytes stay bytes in x."""
    return x if x.dtype == tf.uint8 else _in_32_bits(x), _in_32_bits(y)


def _in_32_bits(value: Any) -> Any:
    return tf.cast(value, tf.float32 if value.dtype.is_floating else tf.int32)


def _size(function: UserFunction, name: str, dataset: Any, given: Any) -> int:
    size = int(dataset.cardinality()) if given is None else given
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 2**31:
        unsure = {tf.data.UNKNOWN_CARDINALITY: "an unknown number", tf.data.INFINITE_CARDINALITY: "no end of them"}
        found = unsure.get(size, repr(size)) if given is None else repr(given)
        raise function.fault(
            f"expected to know how many elements `{name}` has, found {found}",
            f"return `{name}_size`, too: how many elements `{name}` has",
        )
    return size


class TrainStream:
    """Feeds chunks of steps: a window of this worker's part of the next steps, on each of its devices."""

    def __init__(self, cluster: Any, made: Factory, rank: int, seed: int, schedule: Schedule) -> None:
        self._cluster = cluster
        self._factory = made
        self._seed = seed
        self._schedule = schedule
        self._local = len(cluster.extended.worker_devices)
        self._slots = slots_per_replica(schedule.batch, cluster.num_replicas_in_sync)
        self._first = rank * self._local * self._slots  # of this worker's slots in a batch
        each = made.sample.x_train[0].nbytes * self._slots * self._local
        self.most = max(1, min(_MOST_STEPS, _BYTES // max(each, 1), schedule.steps_per_epoch))
        self._window: list[Pair] = []
        self._base = -1  # the step that the window begins at
        self._epoch = 0
        self._steps: Iterator[Pair] = iter(())

    def arguments(self, step: int) -> tuple[Any, Any, Any]:
        epoch = self._schedule.epoch_of(step)
        if epoch > self._schedule.epochs:  # nothing is left to do: a chunk without steps
            epoch, step = self._schedule.epochs, self._schedule.steps - 1
        if epoch != self._epoch or not self._base <= step <= self._base + len(self._window):
            self._open(epoch, step)
        self._window = self._window[step - self._base :]
        self._base = step
        wanted = min(self.most, self._schedule.left_in_epoch(step))
        while len(self._window) < wanted:
            found = next(self._steps, None)
            if found is None:
                raise self._factory.short("train", self._schedule.images)
            self._window.append(found)
        padded = self._window + self._window[-1:] * (self.most - len(self._window))
        x, y = (self._on_devices([pair[place] for pair in padded]) for place in (0, 1))
        return x, y, tf.constant(step, tf.int64)

    def index(self, order: Any, done: Any, start: Any, slot: Any, real: Any) -> Any:  # noqa: ARG002 - as all sources
        return tf.cast(done - order, tf.int32) * self._slots + slot % self._slots

    def _open(self, epoch: int, step: int) -> None:
        batch, mine = self._schedule.batch, self._local * self._slots

        def part(x: Any, y: Any) -> tuple[Any, Any]:
            index = tf.minimum(self._first + tf.range(mine), tf.shape(x)[0] - 1)
            return tf.gather(x, index), tf.gather(y, index)

        dataset = self._factory.epoch(self._seed, epoch).skip(step % self._schedule.steps_per_epoch * batch)
        self._steps = self._factory.read("train", dataset.batch(batch).map(part).prefetch(2))
        self._epoch, self._base, self._window = epoch, step, []

    def _on_devices(self, steps: list[npt.NDArray[Any]]) -> Any:
        """[steps, replicas × slots, …] → on each device [steps × slots, …]."""
        stacked = np.stack(steps).reshape(len(steps), self._local, self._slots, *steps[0].shape[1:])
        parts = [
            np.ascontiguousarray(stacked[:, replica]).reshape(-1, *steps[0].shape[1:]) for replica in range(self._local)
        ]
        return on_each_device(self._cluster, parts)


class TestStream:
    """Feeds validations: this worker's batches of a few rounds at a time."""

    def __init__(self, cluster: Any, made: Factory, rank: int) -> None:
        self._cluster = cluster
        self._factory = made
        self._local = len(cluster.extended.worker_devices)
        self._replicas = cluster.num_replicas_in_sync
        self._first = rank * self._local
        self.count = made.test_size
        self._batches: Iterator[Pair] = iter(())
        self._last: Pair | None = None

    def arguments(self, start: int) -> tuple[Any, Any]:
        if start == 0:
            self._open()
        batches = [self._next() for _ in range(ROUNDS_PER_CALL * self._local)]
        parts = [
            [np.concatenate([b[p] for b in batches[i :: self._local]]) for i in range(self._local)] for p in (0, 1)
        ]
        return on_each_device(self._cluster, parts[0]), on_each_device(self._cluster, parts[1])

    def index(self, start: Any, number: Any, place: Any) -> Any:
        return (number - start) * BATCH + place % BATCH

    def _next(self) -> Pair:
        """The next batch of ours; beyond the end the last one again, which then counts for nothing."""
        found = next(self._batches, self._last)
        if found is None:
            raise self._factory.short("test", self.count)
        self._last = found
        return found

    def _open(self) -> None:
        def ours(number: Any, _: Any) -> Any:
            replica = number % self._replicas
            return (replica >= self._first) & (replica < self._first + self._local)

        def whole(_: Any, pair: tuple[Any, Any]) -> tuple[Any, Any]:
            index = tf.minimum(tf.range(BATCH), tf.shape(pair[0])[0] - 1)
            return tf.gather(pair[0], index), tf.gather(pair[1], index)

        batches = self._factory.tests().batch(BATCH).enumerate()
        # One batch at least for each: a worker without any of its own brings the first one, which counts for nothing.
        own = batches.filter(ours) if self._first * BATCH < self.count else batches.take(1)
        self._batches = self._factory.read("test", own.map(whole).prefetch(2))
        self._last = None
