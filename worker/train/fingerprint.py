"""What computed a checkpoint (bits are promised while it is equal), and what the run is (which must not change)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..contract.machine.processor import instructions
from .settings import Job


def fingerprint(job: Job, replicas: int, precision: str) -> dict[str, Any]:
    """Everything known to change bits. Does not touch a device that TensorFlow has not opened yet."""
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "workers": job.workers,
        "replicas": replicas,
        "threads": job.threads,
        "instructions": instructions(),
        "gpus": [_gpu(device) for device in tf.config.list_physical_devices("GPU")],
        "deterministic": job.deterministic,
        "precision": precision,  # and the way in which it comes about here
    }


def differences(old: Any, new: Mapping[str, Any]) -> list[str]:
    """What is not the same, as `threads: 1 → 2`."""
    before = old if isinstance(old, dict) else {}
    return [f"{name}: {before.get(name)} → {value}" for name, value in new.items() if before.get(name) != value]


def identity(job: Job, images: int, data: str) -> dict[str, Any]:
    """What a run is: a checkpoint of another identity is refused. Without the number of workers or epochs."""
    return {
        "model": job.model,
        "optimizer": job.optimizer.as_json(),
        "learning_rate": job.learning_rate if isinstance(job.learning_rate, float) else job.learning_rate.as_json(),
        "loss": job.loss and job.loss.as_json(),
        "precision": job.precision.as_json(),
        "batch_size": job.batch_size,
        "seed": job.seed,
        "images": images,
        "data": data,
    }


def digest(value: Mapping[str, Any]) -> int:
    """64 bits of a JSON value."""
    return int.from_bytes(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:8], "big")


def _gpu(device: Any) -> str:
    return str(tf.config.experimental.get_device_details(device).get("device_name", device.name))
