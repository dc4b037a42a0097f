"""ClusterSpec: what a cluster.yaml says once it is read, checked and normalised. Plain immutable values.

Durations are seconds, sizes are bytes, paths are absolute (bare ones were relative to the file). `host_defaults` is
already folded into each host. None means "not said: found at check, or the default of whoever uses it".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Ssh:
    """How to reach a host: an alias of ~/.ssh/config, or an explicit address (`host` is then set)."""

    alias: str | None = None
    host: str | None = None
    user: str | None = None
    port: int | None = None
    key: str | None = None
    jump: str | None = None


@dataclass(frozen=True)
class HostSpec:
    """One machine. Exactly one of `local` and `ssh` holds."""

    name: str
    local: bool = False
    ssh: Ssh | None = None
    gpus: Literal["free", "all"] | int | tuple[int, ...] = "free"
    workers: int | None = None  # None with gpus_per_worker None means 1
    gpus_per_worker: int | None = None
    threads: int | None = None  # intra-op threads per worker; None: cores ÷ workers of the machine
    network: str | None = None
    address: str | None = None
    ports: tuple[int, int] = (20000, 20099)  # inclusive
    python: str | None = None  # None: the coordinator's own on a local host, python3 elsewhere
    activate: str | None = None
    setup: tuple[str, ...] = ()
    workdir: str = "~/launcher-work"
    env: Mapping[str, str] = field(default_factory=dict)
    transport: Literal["paramiko", "openssh"] = "paramiko"
    host_keys: str = "known"
    allow_public: bool = False

    @property
    def must_be_made_ready(self) -> bool:
        """Whether something has to be run on the host before workers can be started there."""
        return bool(self.setup) or self.activate is not None


@dataclass(frozen=True)
class DatasetSpec:
    """A named data set (`kind` is its name), or `npz`/`idx` with an absolute path, or `function` with module:name."""

    kind: str = "fashion-mnist-mini"
    path: str | None = None
    function: str | None = None


@dataclass(frozen=True)
class Named:
    """Something of Keras by its name (see worker.contract.keras_names), with those of its settings that were given."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainSpec:
    """The built-in trainer's job. `batch_size` is global: images per step over all replicas."""

    model: str = "cnn"
    dataset: DatasetSpec = DatasetSpec()
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float | Named = 0.001  # Named: a schedule
    optimizer: Named = Named("adam")
    loss: Named | None = None  # None: what fits the model
    seed: int = 0
    deterministic: bool = True
    precision: Named = Named("float32")
    communication: Literal["auto", "ring", "nccl"] = "auto"

    @property
    def functions(self) -> bool:
        """Whether the model or the data come from a function of the user's."""
        return ":" in self.model or self.dataset.function is not None


@dataclass(frozen=True)
class ProgramSpec:
    """The user's own argv, run on every rank instead of the trainer."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class SyncSpec:
    """Which folder of the coordinator's machine travels to the hosts."""

    source: str
    exclude: tuple[str, ...] = ()
    max_bytes: int = 200_000_000


@dataclass(frozen=True)
class DataSpec:
    """Named data: a path of this machine that is brought to the hosts, or one that every host has (`on_host`)."""

    path: str
    on_host: bool = False


@dataclass(frozen=True)
class CheckpointSpec:
    """When the trainer saves, in whichever of the units were given, how many checkpoints are kept, and where.

    `copies` is on how many hosts each is written; None: on two, if there are two.
    """

    every_epochs: int | None = 1
    every_steps: int | None = None
    every_seconds: float | None = None
    keep: int = 3
    home: Literal["newest", "all"] = "newest"  # which of them are brought to this machine
    copies: int | None = None


@dataclass(frozen=True)
class Timeouts:
    """All in seconds."""

    connect: float = 15.0
    start: float = 120.0
    stall: float = 300.0
    host: float = 10.0
    checkpoint: float = 300.0
    stop: float = 10.0
    lease: float = 86400.0


@dataclass(frozen=True)
class RestartSpec:
    """How often training is begun again after a failure. Times in seconds.

    `max` failures within `per` are answered with another generation; one without progress counts twice.
    """

    max: int = 3
    per: float = 3600.0
    backoff: float = 1.0
    zygote: bool = True  # workers are forked from a process that has TensorFlow imported, where memory allows
    keep_warm: float = 0.0  # for so long after a run that has trained that process is kept for the next one; 0: not
    min_workers: int | None = None  # with so many training may go on; None: with all that the spec has at work
    grow: Literal["at_restart", "at_checkpoint", "never"] = "at_restart"  # when hosts that came back are taken in
    spares: int = 0  # so many of the last hosts are held in reserve


@dataclass(frozen=True)
class CoordinatorSpec:
    """Where runs are kept on the coordinator's machine, and programs there that are called: absolute paths."""

    runs: str
    on_end: str | None = None
    on_event: str | None = None


@dataclass(frozen=True)
class ClusterSpec:
    """A whole cluster.yaml. Exactly one of `train` and `program` is set."""

    path: str  # of the file it was read from, absolute
    name: str
    hosts: tuple[HostSpec, ...]
    sync: SyncSpec
    coordinator: CoordinatorSpec
    train: TrainSpec | None = None
    program: ProgramSpec | None = None
    secrets: tuple[str, ...] = ()
    data: Mapping[str, DataSpec] = field(default_factory=dict)
    checkpoint: CheckpointSpec = CheckpointSpec()
    timeouts: Timeouts = Timeouts()
    restart: RestartSpec = RestartSpec()

    @property
    def plain(self) -> bool:
        """Whether every host is this machine, as it is."""
        return all(host.local and not host.must_be_made_ready for host in self.hosts)

    @property
    def runs_own_code(self) -> bool:
        """Whether workers run code of the user's, so that the folder of `sync` travels to them."""
        return self.program is not None or (self.train is not None and self.train.functions)
