"""The numbers that are computed with: Keras's dtype policies, and the scaling of the loss that float16 needs.

Weights, optimizer slots and the sums over workers are float32 in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from .settings import Job
from .words import say

INITIAL_SCALE = 2.0**15
GROWTH_STEPS = 2000
LEAST, MOST = 1.0, 2.0**100
# Without it bfloat16 is emulated through float32: rounding without speed.
_BFLOAT16 = "avx512_bf16"


@dataclass(frozen=True)
class Way:
    """How a precision comes about here: the policy for layers, and the words for it in a fingerprint."""

    policy: str
    told: str
    warning: str = ""


def way(precision: str, gpus: bool, instructions: str) -> Way:
    """The way on a device. On CPUs with AVX512_BF16 the policy was 1.67 × float32's speed, grappler's rewriting
    (auto_mixed_precision_onednn_bfloat16) 1.53 ×, both together 1.59 ×: so it is the policy everywhere."""
    if precision == "float32" or gpus:
        return Way(precision, precision)
    if precision == "mixed_float16":
        return Way(precision, precision, "mixed_float16 has GPUs in mind: on a CPU it is slower than float32")
    if _BFLOAT16 in instructions.split():
        return Way(precision, precision)
    return Way(
        "float32",
        "float32 for mixed_bfloat16",
        "mixed_bfloat16: this CPU has no bfloat16 instructions (AVX512_BF16), so float32 runs instead",
    )


def configure(job: Job, instructions: str) -> Way:
    """Set the policy under which layers are made from here on; a deviation is told in the log."""
    found = way(job.precision.name, bool(tf.config.list_physical_devices("GPU")), instructions)
    keras.config.set_dtype_policy(found.policy)
    if found.warning:
        say(found.warning)
    return found


class LossScale:
    """A factor on the loss that keeps small gradients of float16 from vanishing, as Keras's LossScaleOptimizer has it.

    Whether gradients overflowed is read off their sums over the cluster, so all workers halve or double alike. Both
    variables are part of a checkpoint. Scales are powers of two if the first is, so that unscaling rounds nothing.
    """

    def __init__(self, job: Job) -> None:
        settings = job.precision.settings
        self._growth_steps = settings.get("dynamic_growth_steps", GROWTH_STEPS)
        only_first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        initial = tf.constant(settings.get("initial_scale", INITIAL_SCALE), tf.float32)
        self.scale = tf.Variable(initial, trainable=False, aggregation=only_first)
        self.whole_steps = tf.Variable(  # since the scale was last changed
            tf.zeros((), tf.int64), trainable=False, aggregation=only_first
        )

    @property
    def variables(self) -> dict[str, Any]:
        """By the names under which a checkpoint holds them."""
        return {"loss_scale/scale": self.scale, "loss_scale/whole_steps": self.whole_steps}

    @property
    def may_fall(self) -> Any:
        """Whether the scale is above its floor, as a tensor: at the floor an overflow is the model's own."""
        return self.scale.read_value() > LEAST

    def scaled(self, loss: Any) -> Any:
        return loss * self.scale.read_value()

    def unscaled(self, gradients: list[Any]) -> list[Any]:
        scale = self.scale.read_value()
        return [gradient / scale for gradient in gradients]

    def grow(self) -> None:
        """After a whole step, in a replica's context."""
        due = self.whole_steps.read_value() + 1 >= self._growth_steps
        scale = self.scale.read_value()
        self.scale.assign(tf.where(due, tf.minimum(scale * 2, MOST), scale))
        self.whole_steps.assign(tf.where(due, tf.zeros((), tf.int64), self.whole_steps.read_value() + 1))

    def fall(self) -> None:
        """After a step whose gradients overflowed, in a replica's context."""
        self.scale.assign(tf.maximum(self.scale.read_value() / 2, LEAST))
        self.whole_steps.assign(tf.zeros((), tf.int64))


def loss_scale(job: Job) -> LossScale | None:
    """For mixed_float16, under the strategy's scope; the other precisions need none."""
    return LossScale(job) if job.precision.name == "mixed_float16" else None
