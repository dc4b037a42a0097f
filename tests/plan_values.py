"""Specs and facts made by hand, for tests of the plan."""

from __future__ import annotations

from typing import Any

from launcher.plan.facts import Gpu, HostFacts
from launcher.spec.model import ClusterSpec, CoordinatorSpec, HostSpec, ProgramSpec, SyncSpec, TrainSpec


def spec(*hosts: HostSpec, program: tuple[str, ...] = (), secrets: tuple[str, ...] = (), **keys: Any) -> ClusterSpec:
    return ClusterSpec(
        path="/home/me/job/cluster.yaml",
        name="job",
        hosts=hosts,
        sync=SyncSpec("/home/me/job"),
        coordinator=CoordinatorSpec("/home/me/runs"),
        train=None if program else TrainSpec(),
        program=ProgramSpec(program) if program else None,
        secrets=secrets,
        **keys,
    )


def facts(host: str, *, machine: str = "", gpus: int = 0, busy: tuple[int, ...] = (), **keys: Any) -> HostFacts:
    values: dict[str, Any] = {
        "host": host,
        "machine": machine or f"machine-of-{host}",
        "address": f"10.0.0.{sum(host.encode()) % 250}",
        "cores": 8,
        "python": "/venv/bin/python",
        "folder": f"/runs/job/hosts/{host}",
        "code": f"/runs/job/hosts/{host}/code/abc",
        "source": f"/runs/job/hosts/{host}/sources/def",
        "free_ports": tuple(range(20000, 20020)),
        "gpus": gpus_of(machine or host, gpus, busy),
    }
    return HostFacts(**{**values, **keys})


def gpus_of(machine: str, count: int, busy: tuple[int, ...] = ()) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(i, uuid(machine, i), "H100", 80 * 2**30, "train.py (pid 7)" if i in busy else "") for i in range(count)
    )


def uuid(machine: str, index: int) -> str:
    return f"GPU-{machine}-{index}"
