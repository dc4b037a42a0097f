"""What one host told of itself, as values. Whatever it could not tell is empty, and `failures` says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.plan.facts import Gpu
from worker.contract.machine.interfaces import Interface


@dataclass(frozen=True)
class Python:
    """The workers' Python. `missing` says why there is none; versions are empty for what is not installed."""

    path: str = ""
    missing: str = ""
    version: str = ""
    tensorflow: str = ""
    distribution: str = ""  # which package it is: tensorflow, tensorflow-cpu, …
    keras: str = ""
    cuda: str = ""  # the version that TensorFlow was built for; empty: none
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Disk:
    """The folder of the runs. `refused` says why nothing can be written; no `free_files`: they are not counted."""

    path: str = ""
    exists: bool = False
    free_bytes: int = 0
    total_bytes: int = 0
    free_files: int | None = None
    noexec: bool = False
    kind: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Found:
    """One host. Limits are (soft, hard), None: no limit."""

    host: str
    machine: str = ""
    hostname: str = ""
    kernel: str = ""
    uid: int = -1
    user: str = ""
    home: str = ""
    code: str = ""  # our package's folder on it
    python3: str = ""  # the version under which the agent runs
    cores: int = 1
    instructions: str = ""
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    nvidia: bool = False  # there is a driver
    interfaces: tuple[Interface, ...] = ()
    outgoing: str = ""
    resolved: tuple[str, ...] = ()  # what its `address:` stands for
    ephemeral: tuple[int, int] | None = None  # ports that the kernel gives away
    firewall: str = ""
    free_ports: tuple[int, ...] = ()
    python: Python = Python()
    disk: Disk = Disk()
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    open_files: tuple[int | None, int | None] = (None, None)
    processes: tuple[int | None, int | None] = (None, None)
    shm_bytes: int | None = None
    proxies: tuple[str, ...] = ()  # names of variables
    environment: Mapping[str, str] = field(default_factory=dict)
    accounts: tuple[str, ...] = ()  # of others who can log in; the first twenty of accounts_count
    accounts_count: int = 0
    active: tuple[str, ...] = ()  # others with processes
    kills_at_logout: bool = False
    lingers: bool = False
    clock_s: float = 0.0  # how far its clock is ahead of the coordinator's
    clock_error_s: float = 0.0
    failures: Mapping[str, str] = field(default_factory=dict)  # what was asked → why there is no answer
