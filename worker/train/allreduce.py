"""`python <worker folder> allreduce`: joins the cluster of TF_CONFIG, adds up a tensor twice, and says how that went.

The smallest thing that needs all that a training needs: TensorFlow, the devices, the ports, and every peer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from ..contract import names

MARK = "launcher-deep "
_NO_PROXY = "no_grpc_proxy"  # see the trainer's main
_VALUES = 1 << 18  # a megabyte: more than what goes along with the handshakes


def main(argv: list[str]) -> int:  # noqa: ARG001
    """Print one line of JSON behind MARK. Ends the process: TensorFlow's own end may wait for peers."""
    begun = time.monotonic()
    cluster = json.loads(os.environ[names.TF_CONFIG])["cluster"]["worker"]
    _prepare(cluster)
    import tensorflow as tf

    imported = time.monotonic()
    strategy = tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=tf.distribute.experimental.CommunicationOptions(implementation=_communication(tf))
    )
    joined = time.monotonic()
    replicas = strategy.num_replicas_in_sync
    sums, took = _steps(tf, strategy)
    expected = replicas * (replicas + 1) / 2
    told = {
        "tensorflow": tf.__version__,
        "replicas": replicas,
        "devices": list(strategy.extended.worker_devices),
        "import_s": round(imported - begun, 3),
        "join_s": round(joined - imported, 3),
        "steps_s": [round(seconds, 4) for seconds in took],
        "right": sums == [expected, expected],
    }
    print("\n" + MARK + json.dumps(told), flush=True)
    sys.stderr.flush()
    os._exit(0 if told["right"] else 1)


def _steps(tf: Any, strategy: Any) -> tuple[list[float], list[float]]:
    """The sum over all replicas of 1, 2, 3, …, twice, and how long each took."""

    def replica() -> Any:
        context = tf.distribute.get_replica_context()
        number = tf.cast(context.replica_id_in_sync_group, tf.float32) + 1.0
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([_VALUES]) * number)

    def both() -> Any:
        return strategy.experimental_local_results(strategy.run(replica))

    step = tf.function(both)
    sums, took = [], []
    for _ in range(2):
        begun = time.monotonic()
        values = {float(value) for result in step() for value in (result[0], result[-1])}
        took.append(time.monotonic() - begun)
        sums.append(values.pop() if len(values) == 1 else float("nan"))
    return sums, took


def _prepare(cluster: list[str]) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    hosts = [address.rpartition(":")[0].strip("[]") for address in cluster]
    excluded = os.environ.get(_NO_PROXY) or os.environ.get("no_proxy") or ""
    os.environ[_NO_PROXY] = ",".join(dict.fromkeys([*filter(None, excluded.split(",")), *hosts]))


def _communication(tf: Any) -> Any:
    train = json.loads(os.environ.get(names.TRAIN) or "{}")
    return tf.distribute.experimental.CommunicationImplementation[str(train.get("communication", "auto")).upper()]
