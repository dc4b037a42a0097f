"""What was found on the hosts. Values only: they are gathered by `launcher.check`, or read from `--facts FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver names it."""

    index: int
    uuid: str
    name: str = ""
    memory_bytes: int = 0
    holder: str = ""  # who is on it; empty when it is free


@dataclass(frozen=True)
class HostFacts:
    """What is known of one host. `free_ports` is in the order in which they should be used."""

    host: str
    machine: str  # names a running kernel and its network: hosts with the same one share cores, ports and GPUs
    address: str  # where the other workers reach it
    cores: int
    python: str  # for workers, absolute
    folder: str  # the run's folder on it, absolute
    code: str  # our staged package's folder on it: `python CODE train`
    source: str  # the user's staged folder on it (the trainer: an empty working folder)
    free_ports: tuple[int, ...]
    gpus: tuple[Gpu, ...] = ()
    proxies: bool = False  # http(s)_proxy or grpc_proxy is set in its environment
    environment: Mapping[str, str] = field(default_factory=dict)  # what the plan adds to: no_proxy, PYTHONPATH; no more
    data: Mapping[str, str] = field(default_factory=dict)  # the spec's named data: where they are on it
    dataset: tuple[str, str] | None = None  # kind and path of the data set's files, where they were brought there
    interface: str = ""  # the network interface that has `address`, where it is known: for NCCL


Facts = Mapping[str, HostFacts]  # by host name; a host without an entry shows as "found at check"
