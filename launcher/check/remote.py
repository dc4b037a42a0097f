"""The facts of hosts through their sessions: asked all at once, each by an errand there."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.check import addresses, parse
from launcher.check.errand import Visits, answer
from launcher.check.found import Found
from launcher.check.local import MARGIN
from launcher.check.many import Tell, each, untold
from launcher.check.staged import NOTHING, Staged
from launcher.errors import LauncherError, NotFitError, of_hosts
from launcher.hosts.session import Session
from launcher.hosts.talk import Talk
from launcher.plan.facts import Facts, HostFacts
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec, HostSpec
from worker.contract.layout import HostFolder

_CLOCKS = 5  # round trips; the fastest one tells most
# Our package may have to be brought there first; and a host's own deadlines end before the second.
_BEGIN_S, _LOOK_S = 120.0, 45.0


@dataclass(frozen=True)
class Looked:
    """What the hosts told, and why the others did not."""

    found: Mapping[str, Found]
    failed: Mapping[str, LauncherError]


def gather(
    spec: ClusterSpec,
    run: RunFolder,
    sessions: Mapping[str, Session],
    *,
    staged: Staged = NOTHING,
    port_offset: int | None = None,
    tell: Tell = untold,
) -> Facts:
    """The facts of every host of `sessions`, local ones included, for the plan. Blocks; writes nothing.

    Raises NotFitError that names every host that did not answer, has no such Python, or no address in `network`.
    """
    with Visits(spec, sessions) as visits:
        looked = look(spec, visits, runs=run.path.parent, staged=staged, port_offset=port_offset, tell=tell)
    wrong = [
        (host, NotFitError(f"host {host}: {choice.wrong}", hint=choice.fix))
        for host, choice in addresses.choose(spec.hosts, looked.found).items()
        if choice.wrong
    ]
    for host in looked.found.values():
        if host.python.missing or not host.python.path:
            why = host.python.missing or host.failures.get("python", "it is not known")
            hint = f"set `python:` for host {host.host}"
            wrong.append((host.host, NotFitError(f"host {host.host}: python: {why}", hint=hint)))
        elif "gpus" in host.failures:
            hint = f"see what nvidia-smi says on {host.host}, or set `gpus: 0` to train on the CPU"
            wrong.append((host.host, NotFitError(f"host {host.host}: {host.failures['gpus']}", hint=hint)))
    together([*looked.failed.items(), *wrong], "something is amiss on")
    return facts_of(spec, run, looked.found, staged=staged)


def together(errors: Iterable[tuple[str, LauncherError]], what: str) -> None:
    """Raises the errors of (host, error) as one, if there are any; `what` as for `of_hosts`."""
    error = of_hosts(list(errors), what)
    if error is not None:
        raise error


def look(
    spec: ClusterSpec,
    visits: Visits,
    *,
    runs: Path,
    staged: Staged = NOTHING,
    port_offset: int | None = None,
    tell: Tell = untold,
) -> Looked:
    """Ask every host for all that plan and check need. Blocks up to the slowest host's deadline."""
    hosts = visits.hosts
    # As many for each as if all were one machine, and some more for a plan made again with other ports.
    count = sum(_most_workers(host) for host in spec.hosts) + MARGIN

    def ask(name: str) -> Found:
        host = hosts[name]
        order = {
            "type": "look",
            "workdir": str(runs.absolute()) if host.local else host.workdir,
            "python": host.python or (sys.executable if host.local else ""),
            "environment": {**staged.environments.get(name, {}), **host.env},
            "gone": list(staged.gone.get(name, ())),
            "address": host.address or "",
            "ports": list(host.ports),
            "count": count,
            "offset": port_offset,
            "gpus": host.gpus not in (0, ()),
            "cache": not host.local,
        }
        return _answer(visits.talk(name), order)

    found, failed = each(list(hosts), ask, what="looking at", tell=tell)
    return Looked(found, failed)


def facts_of(
    spec: ClusterSpec,
    run: RunFolder,
    found: Mapping[str, Found],
    *,
    staged: Staged = NOTHING,
) -> Facts:
    """What was found as the plan's facts. Of a Python that is not there the spec's word stands."""
    chosen = addresses.choose(spec.hosts, found)
    return {
        host.name: _facts(spec, host, run, found[host.name], chosen[host.name], staged)
        for host in spec.hosts
        if host.name in found
    }


def _facts(
    spec: ClusterSpec, host: HostSpec, run: RunFolder, found: Found, chosen: addresses.Chosen, staged: Staged
) -> HostFacts:
    folder = run.host(host.name).root if host.local else f"{found.disk.path}/{run.name}/{host.name}"
    if host.local:
        source = spec.sync.source if spec.runs_own_code else run.host(host.name).sources("none")
    else:
        source = HostFolder(folder).sources("none")
    return HostFacts(
        host=host.name,
        machine=found.machine,
        address=chosen.address,
        interface=chosen.interface,
        cores=found.cores,
        python=found.python.path or host.python or "python3",
        folder=folder,
        code=staged.codes.get(host.name) or found.code,
        source=staged.sources.get(host.name) or source,
        free_ports=found.free_ports,
        gpus=found.gpus,
        proxies=bool(found.proxies),
        environment=found.environment,
    )


def _answer(talk: Talk, order: Mapping[str, object]) -> Found:
    ahead, error = _clock(talk)
    talk.send(dict(order))
    told = answer(talk, "facts", _LOOK_S)
    try:
        return parse.found(talk.host, told, clock_s=ahead, clock_error_s=error)
    except ValueError as wrong:
        raise NotFitError(
            f"{talk.host} tells facts that make no sense: {wrong}", hint="see who can write to our package there"
        ) from wrong


def _clock(talk: Talk) -> tuple[float, float]:
    """(how far the host's clock is ahead, at most so wrong), in seconds, by the fastest of several round trips."""
    tried = []
    for turn in range(_CLOCKS):
        sent, begun = time.time(), time.monotonic()
        talk.send({"type": "clock"})
        there = answer(talk, "clock", _LOOK_S if turn else _BEGIN_S).get("t")
        took = time.monotonic() - begun
        if isinstance(there, (int, float)) and turn:  # the first one waited for the errand to start
            tried.append((took / 2, float(there) - (sent + took / 2)))
    if not tried:
        raise NotFitError(f"{talk.host} does not tell the time")
    error, ahead = min(tried)
    return ahead, error


def _most_workers(host: HostSpec) -> int:
    if host.workers:
        return host.workers
    listed = len(host.gpus) if isinstance(host.gpus, tuple) else host.gpus if isinstance(host.gpus, int) else 16
    return max(1, listed // host.gpus_per_worker) if host.gpus_per_worker else 1
