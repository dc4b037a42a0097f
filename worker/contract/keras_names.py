"""What a spec may name of Keras, and with which settings: the coordinator checks specs by it and never imports Keras.

Names are Keras's own, in small letters with `_` between words; values are the class and its settings.
"""

from typing import Dict, NamedTuple, Tuple


class Taken(NamedTuple):
    """A class of Keras: its name there, the settings it takes here, and those of them that it needs."""

    cls: str
    settings: Tuple[str, ...]
    needed: Tuple[str, ...] = ()


_EVERY = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm")  # besides learning_rate
_MOMENTS = ("beta_1", "beta_2")
_MUON = (
    *("adam_beta_1", "adam_beta_2", "adam_weight_decay", "adam_lr_ratio", "epsilon", "momentum", "nesterov"),
    *("ns_steps", "rms_rate", "exclude_embeddings"),
)
_FTRL = (
    *("learning_rate_power", "initial_accumulator_value", "beta", "l1_regularization_strength"),
    *("l2_regularization_strength", "l2_shrinkage_regularization_strength"),
)

OPTIMIZERS: Dict[str, Taken] = {
    "adam": Taken("Adam", (*_MOMENTS, "epsilon", "amsgrad", *_EVERY)),
    "adamw": Taken("AdamW", (*_MOMENTS, "epsilon", "amsgrad", *_EVERY)),
    "sgd": Taken("SGD", ("momentum", "nesterov", *_EVERY)),
    "rmsprop": Taken("RMSprop", ("rho", "momentum", "epsilon", "centered", *_EVERY)),
    "adagrad": Taken("Adagrad", ("initial_accumulator_value", "epsilon", *_EVERY)),
    "adadelta": Taken("Adadelta", ("rho", "epsilon", *_EVERY)),
    "adamax": Taken("Adamax", (*_MOMENTS, "epsilon", *_EVERY)),
    "adafactor": Taken(
        "Adafactor", ("beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold", "relative_step", *_EVERY)
    ),
    "nadam": Taken("Nadam", (*_MOMENTS, "epsilon", *_EVERY)),
    "ftrl": Taken("Ftrl", (*_FTRL, *_EVERY)),
    "lion": Taken("Lion", (*_MOMENTS, *_EVERY)),
    "lamb": Taken("Lamb", (*_MOMENTS, "epsilon", *_EVERY)),
    "muon": Taken("Muon", (*_MUON, *_EVERY)),
}

SCHEDULES: Dict[str, Taken] = {
    "cosine_decay": Taken(
        "CosineDecay",
        ("initial_learning_rate", "decay_steps", "alpha", "warmup_target", "warmup_steps"),
        ("initial_learning_rate", "decay_steps"),
    ),
    "cosine_decay_restarts": Taken(
        "CosineDecayRestarts",
        ("initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha"),
        ("initial_learning_rate", "first_decay_steps"),
    ),
    "exponential_decay": Taken(
        "ExponentialDecay",
        ("initial_learning_rate", "decay_steps", "decay_rate", "staircase"),
        ("initial_learning_rate", "decay_steps", "decay_rate"),
    ),
    "inverse_time_decay": Taken(
        "InverseTimeDecay",
        ("initial_learning_rate", "decay_steps", "decay_rate", "staircase"),
        ("initial_learning_rate", "decay_steps", "decay_rate"),
    ),
    "piecewise_constant_decay": Taken("PiecewiseConstantDecay", ("boundaries", "values"), ("boundaries", "values")),
    "polynomial_decay": Taken(
        "PolynomialDecay",
        ("initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle"),
        ("initial_learning_rate", "decay_steps"),
    ),
}

LOSSES: Dict[str, Taken] = {
    "sparse_categorical_crossentropy": Taken("SparseCategoricalCrossentropy", ()),
    "categorical_crossentropy": Taken("CategoricalCrossentropy", ("label_smoothing",)),
    "categorical_focal_crossentropy": Taken("CategoricalFocalCrossentropy", ("alpha", "gamma", "label_smoothing")),
}

PRECISIONS: Dict[str, Taken] = {
    "float32": Taken("float32", ()),
    "mixed_bfloat16": Taken("mixed_bfloat16", ()),
    "mixed_float16": Taken("mixed_float16", ("initial_scale", "dynamic_growth_steps")),
}

# Settings that Keras has and a run here must not: each with the reason, told to whoever writes them.
REFUSED: Dict[str, str] = {
    "gradient_accumulation_steps": "a step here commits one update or none; a larger `batch_size` does the same sum",
    "use_ema": "checkpoints, validation and the saved model would each need other weights",
    "ema_momentum": "it belongs to `use_ema`, which is not taken",
    "ema_overwrite_frequency": "it belongs to `use_ema`, which is not taken",
    "loss_scale_factor": "`precision: mixed_float16` scales the loss",
}

# Optimizers of Keras that are not taken, each with the reason.
OTHER_OPTIMIZERS: Dict[str, str] = {
    "schedulefreeadamw": "it validates and saves with other weights than it trains with",
    "lossscaleoptimizer": "write `precision: mixed_float16`, which scales the loss",
    "multioptimizer": "one optimizer trains all weights",
}


def canonical(name: str, known: Dict[str, Taken]) -> str:
    """The name as it stands in a table for any of Keras's spellings (`AdamW`, `CosineDecay`); else as it is."""
    bare = name.replace("_", "").lower()
    return next((key for key in known if key.replace("_", "") == bare), name)
