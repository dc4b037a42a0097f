"""Making the cluster: TensorFlow's settings, then MultiWorkerMirroredStrategy, then the proof that it is the plan's."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.eager import context

from .errors import TrainError
from .settings import Job, Settings

_NO_PORT = "Could not start gRPC server"


def configure(job: Job, *, alone: bool) -> None:
    """Threads, seeds and determinism; nothing here touches a device. Before anything else of TensorFlow is used."""
    if keras.config.backend() != "tensorflow":
        raise TrainError(
            "environment",
            f"expected Keras to run on TensorFlow, found {keras.config.backend()}",
            hint="unset KERAS_BACKEND",
        )
    # A ~/.keras/keras.json may say otherwise, and workers would differ.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    if job.threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(job.threads)
    if job.threads == 1 and not alone and job.dataset_function is None:
        # A second thread for ops would only take the one core from those that talk to the peers. A user's own pipeline
        # may wait for itself with one.
        tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(job.seed)
    if job.deterministic:
        tf.config.experimental.enable_op_determinism()


def join(settings: Settings) -> Any:
    """The strategy, once all workers are there: waits for them without limit. Raises TrainError (`port`, `cluster`)."""
    implementation = tf.distribute.experimental.CommunicationImplementation[settings.job.communication.upper()]
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(implementation=implementation)
        )
    except tf.errors.OpError as error:
        if _NO_PORT in str(error):
            raise TrainError(
                "port",
                f"TensorFlow cannot have the address {settings.workers[settings.rank]}: it is in use, "
                "or not an address of this machine",
                hint="choose another port in `ports:`",
            ) from error
        raise
    _check(strategy, settings)
    return strategy


def break_collectives() -> None:
    """Let all collectives of this process fail, now and later: one whose peer is gone may wait for it for long.

    TensorFlow sees a broken connection at once, but a collective that is the first of its kind (the first validation's,
    say) asks its peers in another way, which gives up after 8 to 12 s only.
    """
    context.context().abort_collective_ops(tf.errors.UNAVAILABLE, "another rank is gone, says the agent of this one")


def _check(strategy: Any, settings: Settings) -> None:
    """A strategy that is not the planned cluster would train something else, silently."""
    size = len(settings.workers)
    resolver = strategy.cluster_resolver
    joined = resolver.cluster_spec().as_dict().get("worker", [])
    place = (resolver.task_type, resolver.task_id)
    replicas = strategy.num_replicas_in_sync
    if list(joined) != list(settings.workers) or place != ("worker", settings.rank) or replicas % size:
        raise TrainError(
            "cluster",
            f"TensorFlow made a cluster of {len(joined)} workers with {replicas} replicas in which this is "
            f"{place[0]} {place[1]}; planned are {size} workers, and this is rank {settings.rank}",
            hint="start every rank with the environment that the plan prints for it",
        )


def local_devices(strategy: Any) -> tuple[str, ...]:
    """The devices of this worker, one for each of its replicas."""
    return tuple(strategy.extended.worker_devices)
