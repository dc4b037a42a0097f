"""What a model changes in a step beside its weights: statistics (BatchNorm), counters, seeds (Dropout).

A replica computes such changes without making them. Floats become the mean over the batch's images, whole numbers
those of the first replica, and seeds move on equally everywhere; all of it is committed with the weights of the step.
A replica draws from seeds with its own number folded in, so that no two replicas use the same mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

SEED = "seed_generator_state"  # Keras's name for a SeedGenerator's variable: a seed and a counter
_APART = 1_000_003  # between the seeds of two replicas


class Changed(NamedTuple):
    """A replica's changes, then the cluster's sums of them; each list is in the order of `Beside`'s variables."""

    floats: list[Any]
    whole: list[Any]
    seeds: list[Any]


class Beside:
    """The variables that change. `numbers` are their places among the model's non-trainable variables."""

    def __init__(self, model: keras.Model, numbers: Sequence[int] = ()) -> None:
        variables = [model.non_trainable_variables[number] for number in numbers]
        self.seeds = [v for v in variables if v.name == SEED]
        self.floats = [v for v in variables if v.name != SEED and tf.as_dtype(v.dtype).is_floating]
        self.whole = [v for v in variables if v.name != SEED and not tf.as_dtype(v.dtype).is_floating]
        self._names = {id(v): _owner(model, v) for v in variables}
        # Inside a scope, regularizers see mapped variables only.
        regular = any(v.regularizer is not None for v in model.trainable_variables)
        self._weights = list(model.trainable_variables) if regular else []

    @property
    def splits(self) -> list[str]:
        """What of the model depends on how a batch is split over replicas."""
        names = [f"{self._names[id(v)]} (statistics of each replica's part of a batch)" for v in self.floats]
        names += [f"{self._names[id(v)]} (counted by the first replica)" for v in self.whole]
        return list(dict.fromkeys([*names, *(f"{self._names[id(v)]} (random numbers)" for v in self.seeds)]))

    def scope(self, replica: Any = None) -> keras.StatelessScope:
        """A scope in which the model changes nothing; what it would change is asked of it by `changed`.

        Without a replica's number nothing may be drawn: for a model in inference.
        """
        mapping = [(v, tf.convert_to_tensor(v.value)) for v in self._weights]
        if replica is not None:
            mapping += [(v, v.value + _fold(replica)) for v in self.seeds]
        return keras.StatelessScope(mapping, collect_losses=True, initialize_variables=False)

    def changed(self, scope: keras.StatelessScope, replica: Any, here: Any) -> Changed:
        """What this replica brings to the cluster's sums, but for seeds, which need none. `here`: its real images."""
        first = tf.cast(tf.equal(replica, 0), tf.int64)
        return Changed(
            [tf.cast(_now(scope, v), tf.float32) * tf.cast(here, tf.float32) for v in self.floats],
            [tf.cast(_now(scope, v), tf.int64) * first for v in self.whole],
            [_now(scope, v) - _fold(replica) for v in self.seeds],
        )

    def commit(self, strategy: Any, changed: Changed, batch: Any) -> None:
        """Assign what the cluster's sums say, to every local copy. `batch`: the images of the step, per replica."""

        def mean(variable: Any, total: Any, images: Any) -> Any:
            return variable.assign(tf.cast(total / tf.cast(images, tf.float32), variable.dtype))

        def same(variable: Any, value: Any) -> Any:
            return variable.assign(tf.cast(value, variable.dtype))

        for variable, total in zip(self.floats, changed.floats, strict=True):
            strategy.extended.update(variable.value, mean, args=(total, batch))
        for variable, value in zip([*self.whole, *self.seeds], [*changed.whole, *changed.seeds], strict=True):
            strategy.extended.update(variable.value, same, args=(value,))


def study(model: keras.Model, examples: Any) -> tuple[list[int], bool]:
    """Which non-trainable variables a step of the model changes, and whether it changes any that are not its own."""
    with keras.StatelessScope(initialize_variables=False) as scope:
        model(examples, training=True)
    variables = model.non_trainable_variables
    numbers = [number for number, v in enumerate(variables) if scope.get_current_value(v) is not None]
    return numbers, len(scope.state_mapping) > len(numbers)


def _fold(replica: Any) -> Any:
    return tf.stack([tf.cast(replica, tf.int64) * _APART, tf.zeros((), tf.int64)])


def _now(scope: keras.StatelessScope, variable: Any) -> Any:
    value = scope.get_current_value(variable)
    return variable.value if value is None else value


def _owner(model: keras.Model, variable: Any) -> str:
    """The layer that a variable belongs to, as the model names it."""
    layers = [layer.name for layer in model.layers if any(variable is v for v in layer.variables)]
    return str(layers[0] if layers else model.name)
