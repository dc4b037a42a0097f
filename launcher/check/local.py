"""The facts of this machine, for the hosts of a spec that are local. Nothing is started but nvidia-smi."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Mapping
from pathlib import Path
from types import MappingProxyType

from launcher.check import gpus, network
from launcher.errors import NotFitError
from launcher.plan.facts import Facts, Gpu, HostFacts
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec, HostSpec
from worker.contract.machine import cores, ports
from worker.contract.machine.identity import machine

_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
# What a plan adds to. Nothing else: facts are written to files, and an environment holds secrets.
_KEPT = ("no_proxy", "NO_PROXY", "PYTHONPATH")
# More than the workers need, so that a plan made again with other ports need not look again.
MARGIN = 10
_NONE: Mapping[str, str] = MappingProxyType({})


def gather(
    spec: ClusterSpec,
    run_folder: Path,
    *,
    codes: Mapping[str, str] = _NONE,
    sources: Mapping[str, str] = _NONE,
    port_offset: int | None = None,
    skip: Container[str] = (),
) -> Facts:
    """The facts of every local host of the spec but those to `skip`; other hosts are left out. Writes nothing.

    `codes` are the staged packages by host, by default the installed one. `sources` are the workers' working folders by
    host, by default the user's own if its code is run and an empty one otherwise. `port_offset` says where in the
    range of ports to begin, by default elsewhere each time. Raises NotFitError: no such Python, no address in
    `network`, an nvidia-smi that fails.
    """
    local = [host for host in spec.hosts if host.local and host.name not in skip]
    if not local:
        return {}
    found = gpus.find(os.environ.get("CUDA_VISIBLE_DEVICES")) if any(map(_wants_gpus, local)) else ()
    wanted = sum(_most_workers(host, found) for host in local) + MARGIN
    folder = RunFolder(run_folder.absolute())
    count = cores.usable()
    facts: dict[str, HostFacts] = {}
    for host in local:
        address, interface = network.address_of(host, alone=all(other.local for other in spec.hosts))
        place = folder.host(host.name)
        own = spec.sync.source if spec.runs_own_code else place.sources("none")
        facts[host.name] = HostFacts(
            host=host.name,
            machine=machine(),
            address=address,
            interface=interface,
            cores=count,
            python=python(host),
            folder=place.root,
            code=codes.get(host.name) or installed_code(),
            source=sources.get(host.name) or own,
            free_ports=ports.free(*host.ports, wanted, offset=port_offset),
            gpus=found,
            proxies=any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES),
            environment={name: os.environ[name] for name in _KEPT if name in os.environ},
        )
    return facts


def installed_code() -> str:
    """The folder of the installed `worker` package."""
    import worker

    return str(Path(worker.__file__).parent.absolute())


def python(host: HostSpec) -> str:
    """The Python of a local host's workers, absolute: what the spec says, or the one that runs the launcher.

    Links are left as they are: a virtual environment is known by its link.
    """
    import sys

    said = host.python or sys.executable
    path = shutil.which(str(Path(said).expanduser()))
    if path is None:
        raise NotFitError(
            f"host {host.name}: python {said} is not an executable file",
            hint=f"set `python:` for host {host.name} to one that has TensorFlow (`command -v python3` shows the path)",
        )
    return str(Path(path).absolute())


def _wants_gpus(host: HostSpec) -> bool:
    return host.gpus not in (0, ())


def _most_workers(host: HostSpec, found: tuple[Gpu, ...]) -> int:
    return host.workers or (max(1, len(found)) if host.gpus_per_worker else 1)
