"""LaunchPlan: everything that a generation will do, as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from worker.contract import names

UNKNOWN = "found at check"


@dataclass(frozen=True)
class RankPlan:
    """One worker: enough to start it by hand. Fields that depend on facts not known yet hold None."""

    rank: int
    host: str
    address: str | None
    port: int | None
    gpus: tuple[str, ...]  # UUIDs for CUDA_VISIBLE_DEVICES; empty: no GPU is shown to it
    threads: int | None
    argv: tuple[str, ...]
    cwd: str | None
    env: Mapping[str, str]  # what is set on top of the host's environment, TF_CONFIG included; no secrets
    secrets: tuple[str, ...]  # names only
    files: Mapping[str, str]  # what it writes: log, progress, checkpoints, output → path
    stop: Literal["message", "SIGTERM"]  # how it is first asked to stop
    saves: bool = False  # whether it writes checkpoints; what a program saves is not known

    @property
    def known(self) -> bool:
        """True when every fact that this rank needs is known, its peers' addresses too, so that it can be started."""
        return None not in (self.address, self.port, self.threads, self.cwd) and names.TF_CONFIG in self.env


@dataclass(frozen=True)
class HostPlan:
    """One host of the plan and the ranks on it, in rank order. Without ranks it is not at work in this generation."""

    name: str
    local: bool
    folder: str | None
    code: str | None
    ranks: tuple[int, ...]
    workers: int = 0  # as many as it has ranks, or would have if it was at work


@dataclass(frozen=True)
class LaunchPlan:
    """A generation: `ranks[i].rank == i`. `resumes` is the name of the checkpoint it starts from, or empty."""

    run: str
    generation: int
    hosts: tuple[HostPlan, ...]
    ranks: tuple[RankPlan, ...]
    resumes: str = ""
    global_batch: int | None = None  # None for a program
    epochs: int | None = None
    promise: str = ""  # about results, in words; empty for a program

    @property
    def at_work(self) -> tuple[HostPlan, ...]:
        """The hosts that have ranks in this generation; the others are in reserve, or gone."""
        return tuple(host for host in self.hosts if host.ranks)

    @property
    def known(self) -> bool:
        """True when the plan can be carried out."""
        return all(rank.known for rank in self.ranks)
