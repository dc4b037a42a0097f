"""The keys of `train` that name something of Keras: optimizer, learning rate, loss, precision."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import model_validator

from launcher.spec.keys import Keys, absent, default, needed
from launcher.spec.types import Bound, Count, CountOrNone, Number, Positive, Read, Share, Short, Truth
from launcher.spec.values import UnfitError, did_you_mean
from worker.contract.keras_names import (
    LOSSES,
    OPTIMIZERS,
    OTHER_OPTIMIZERS,
    PRECISIONS,
    REFUSED,
    SCHEDULES,
    Taken,
    canonical,
)

CONSTANT = "constant"  # a learning rate that is a number
_RATES = {**SCHEDULES, CONSTANT: Taken(CONSTANT, ("initial_learning_rate",), ("initial_learning_rate",))}


class KerasName(Read):
    """One of a table's names, in any of Keras's spellings; the value is the table's."""

    def __init__(self, known: dict[str, Taken], others: Mapping[str, str] = {}) -> None:
        self._known, self._others = known, others
        classes = [taken.cls for name, taken in known.items() if taken.cls != name]
        super().__init__(self._name, ", ".join(f"`{name}`" for name in known), enum=[*known, *classes])

    def _name(self, value: Any) -> str:
        expected = ", ".join(self._known)
        if not isinstance(value, str):
            raise UnfitError("not a name", expected)
        name = canonical(str(value)[:80], self._known)
        if name in self._known:
            return str(name)
        reason = self._others.get(value[:80].replace("_", "").lower(), "")
        raise UnfitError(
            "not taken here" if reason else "not known", expected, reason or did_you_mean(name, self._known)
        )


class OfKeras(Keys):
    """Something of Keras by its name, with settings (short form: the name alone)."""

    known: ClassVar[dict[str, Taken]]
    name: str

    @classmethod
    def long_form(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key in REFUSED:
                    raise UnfitError(f"`{key}` is not taken", cls.shape, REFUSED[key])
        return {"name": data} if isinstance(data, str) else data

    @property
    def settings(self) -> dict[str, Any]:
        """What goes to Keras besides the name and a learning rate."""
        return {key: value for key, value in self.given.items() if key not in ("name", "learning_rate")}

    @model_validator(mode="after")
    def _settings_of_it(self) -> OfKeras:
        taken = self.known[self.name]
        expected = f"settings of {self.name}: {', '.join(taken.settings) or 'none'}"
        for key in self.settings:
            if key not in taken.settings:
                of = ", ".join(name for name, other in self.known.items() if key in other.settings)
                raise UnfitError(f"`{key}` is no setting of {self.name}", expected, f"it is one of {of}")
        missing = [key for key in taken.needed if key not in self.model_fields_set]
        if missing:
            raise UnfitError(f"{self.name} needs `{'` and `'.join(missing)}`", expected)
        return self


class LearningRate(OfKeras):
    """How far each step goes: a number (short form), or a schedule of Keras over the updates of the run."""

    shape = "a number such as 0.001, or {name: cosine_decay, initial_learning_rate: …, decay_steps: …}"
    known = _RATES

    name: Annotated[str, KerasName(_RATES)] = needed("Keras's name of the schedule")
    initial_learning_rate: Positive = absent("where it begins, or with a warm-up, where the warm-up begins", "0.001")
    decay_steps: Count = absent("over how many updates it decays", "4690")
    first_decay_steps: Count = absent("of `cosine_decay_restarts`: until the first restart", "938")
    decay_rate: Positive = absent("of `exponential_decay` and `inverse_time_decay`", "0.96")
    staircase: Truth = absent("whether it decays in steps instead of smoothly", "true")
    alpha: Share = absent("of the cosine schedules: the least rate, as a part of the first", "0.1")
    warmup_target: Positive = absent("of `cosine_decay`: the rate at the end of the warm-up", "0.01")
    warmup_steps: CountOrNone = absent("of `cosine_decay`: over how many updates it warms up", "100")
    t_mul: Positive = absent("of `cosine_decay_restarts`: how much longer each period is than the last", "2.0")
    m_mul: Positive = absent("of `cosine_decay_restarts`: how much of its rate each restart has", "0.9")
    end_learning_rate: Number = absent("of `polynomial_decay`: where it ends", "0.0001")
    power: Positive = absent("of `polynomial_decay`", "0.5")
    cycle: Truth = absent("of `polynomial_decay`: whether it begins anew", "true")
    boundaries: list[Count] = absent("of `piecewise_constant_decay`: after which updates it changes", "[1000, 2000]")
    values: list[Positive] = absent("of `piecewise_constant_decay`: one more than boundaries", "[0.01, 0.001, 0.0001]")

    @classmethod
    def long_form(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {"name": CONSTANT, "initial_learning_rate": data}

    @model_validator(mode="after")
    def _whole(self) -> LearningRate:
        if ("warmup_target" in self.given) != bool(self.given.get("warmup_steps")):
            raise UnfitError("half a warm-up", "both `warmup_target` and `warmup_steps`, or neither")
        boundaries, values = self.given.get("boundaries"), self.given.get("values")
        if boundaries is not None and values is not None and len(values) != len(boundaries) + 1:
            raise UnfitError(f"{len(values)} values for {len(boundaries)} boundaries", "one value more than boundaries")
        if boundaries and any(b <= a for a, b in itertools.pairwise(boundaries)):
            raise UnfitError("boundaries out of order", "each boundary after the one before")
        return self


A_RATE: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0}


class Optimizer(OfKeras):
    """How weights are updated: one of Keras's optimizers with its settings (short form: the name alone). Clipping is of
    the gradients of the whole batch, summed over all workers."""

    shape = "adam, or {name: adamw, weight_decay: 0.01, …}"
    known = OPTIMIZERS

    name: Annotated[str, KerasName(OPTIMIZERS, OTHER_OPTIMIZERS)] = default("adam", "its name in Keras")
    learning_rate: Annotated[LearningRate, Short(A_RATE)] = absent("here instead of beside `optimizer`", "0.001")
    weight_decay: Share = absent("of each update, a part of the weights; default: Keras's", "0.01")
    clipnorm: Positive = absent("each gradient is scaled down to this norm", "1.0")
    clipvalue: Positive = absent("each number of a gradient is cut to this size", "0.5")
    global_clipnorm: Positive = absent("all gradients together are scaled down to this norm", "1.0")
    beta_1: Share = absent("decay of the first moment", "0.9")
    beta_2: Share = absent("decay of the second moment", "0.999")
    epsilon: Positive = absent("what keeps divisions from being by zero", "1e-7")
    amsgrad: Truth = absent("of `adam` and `adamw`", "true")
    momentum: Share = absent("of `sgd`, `rmsprop` and `muon`", "0.9")
    nesterov: Truth = absent("of `sgd` and `muon`", "true")
    rho: Share = absent("of `rmsprop` and `adadelta`", "0.95")
    centered: Truth = absent("of `rmsprop`", "true")
    initial_accumulator_value: Annotated[float, Bound(0)] = absent("of `adagrad` and `ftrl`", "0.1")
    beta_2_decay: Number = absent("of `adafactor`", "-0.8")
    epsilon_1: Positive = absent("of `adafactor`", "1e-30")
    epsilon_2: Positive = absent("of `adafactor`", "0.001")
    clip_threshold: Positive = absent("of `adafactor`", "1.0")
    relative_step: Truth = absent("of `adafactor`", "true")
    learning_rate_power: Annotated[float, Bound(None, 0)] = absent("of `ftrl`", "-0.5")
    l1_regularization_strength: Annotated[float, Bound(0)] = absent("of `ftrl`", "0.01")
    l2_regularization_strength: Annotated[float, Bound(0)] = absent("of `ftrl`", "0.01")
    l2_shrinkage_regularization_strength: Annotated[float, Bound(0)] = absent("of `ftrl`", "0.01")
    beta: Number = absent("of `ftrl`", "0.0")
    adam_beta_1: Share = absent("of `muon`", "0.9")
    adam_beta_2: Share = absent("of `muon`", "0.999")
    adam_weight_decay: Share = absent("of `muon`", "0.004")
    adam_lr_ratio: Positive = absent("of `muon`", "1.0")
    ns_steps: Count = absent("of `muon`", "5")
    rms_rate: Positive = absent("of `muon`", "0.2")
    exclude_embeddings: Truth = absent("of `muon`", "true")

    @model_validator(mode="after")
    def _one_clipping(self) -> Optimizer:
        ways = [key for key in ("clipnorm", "clipvalue", "global_clipnorm") if key in self.given]
        if len(ways) > 1:
            raise UnfitError("gradients are clipped in two ways", f"one of `{'`, `'.join(ways)}`")
        return self


class Loss(OfKeras):
    """What training makes small: cross-entropy of the classes, as one of Keras's losses (short form: the name alone).
    `{label_smoothing: 0.1}` alone is `categorical_crossentropy`. Targets stay the numbers of the classes."""

    shape = "sparse_categorical_crossentropy, or {label_smoothing: 0.1}"
    known = LOSSES

    name: Annotated[str, KerasName(LOSSES)] = default("sparse_categorical_crossentropy", "Keras's name of the loss")
    label_smoothing: Share = absent("how much of each target is spread over all classes", "0.1")
    alpha: Share = absent("of `categorical_focal_crossentropy`", "0.25")
    gamma: Annotated[float, Bound(0)] = absent("of `categorical_focal_crossentropy`", "2.0")

    @classmethod
    def long_form(cls, data: Any) -> Any:
        data = super().long_form(data)
        if isinstance(data, dict) and data.get("name") is None and data.get("label_smoothing") is not None:
            return {**data, "name": "categorical_crossentropy"}
        return data


class Precision(OfKeras):
    """The numbers that are computed with (short form: the name alone). Weights are float32 in any case."""

    shape = "float32, mixed_bfloat16 or mixed_float16"
    known = PRECISIONS

    name: Annotated[str, KerasName(PRECISIONS)] = default("float32", "Keras's name of it")
    initial_scale: Annotated[float, Bound(1, 2.0**100)] = absent(
        "of `mixed_float16`: what the loss is multiplied with at first; halved when gradients overflow", "32768"
    )
    dynamic_growth_steps: Count = absent("of `mixed_float16`: after so many whole steps the scale is doubled", "2000")
