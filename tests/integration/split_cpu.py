"""`split_cpu.py FOLDER VERB…`: like `python FOLDER VERB…`, with each worker's CPU taken for two devices.

TensorFlow counts one CPU device per worker, so several replicas per worker would need GPUs. This gives it two logical
CPU devices, and makes its strategy use both.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended


def two_devices(_: Any, resolver: Any, worker_device: str) -> tuple[tuple[str, ...], str]:  # noqa: ARG001
    return tuple(f"{worker_device}/device:CPU:{number}" for number in range(2)), "CPU"


if __name__ == "__main__":
    half = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])
    CollectiveAllReduceExtended._initialize_local_devices = two_devices
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
