"""The facts of hosts through their sessions: asked all at once, each by an errand there."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
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
from worker.contract import wire
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
    known: Looked | None = None,
    tell: Tell = untold,
) -> Looked:
    """Ask every host for all that plan and check need. Blocks up to the slowest host's deadline.

    `known` is what some hosts were asked already: they are not asked again.
    """
    done = known or Looked({}, {})

    def ask(name: str) -> Found:
        host, talk = visits.hosts[name], visits.talk(name)
        order = _order(spec, host, runs, staged.environments.get(name, {}), staged.gone.get(name, ()), port_offset)
        return _answer(talk, order, _clock(talk))

    todo = [name for name in visits.hosts if name not in done.found and name not in done.failed]
    found, failed = each(todo, ask, what="looking at", tell=tell) if todo else ({}, {})
    found = {**done.found, **found}
    return Looked({n: found[n] for n in visits.hosts if n in found}, {**done.failed, **failed})


def look_at_one(
    spec: ClusterSpec, host: HostSpec, talk: Talk, environment: Mapping[str, str], gone: Sequence[str]
) -> Found:
    """As `look`, for one host that is another machine, in one round trip: its clock is told less sharply.

    `environment` is what `activate:` sets, `gone` what it takes away. Blocks. Raises NotFitError.
    """
    order = _order(spec, host, Path(), environment, gone, None)
    return _answer(talk, {**order, "people": False})  # nothing about them keeps a run from starting


def _order(
    spec: ClusterSpec,
    host: HostSpec,
    runs: Path,
    environment: Mapping[str, str],
    gone: Sequence[str],
    port_offset: int | None,
) -> dict[str, object]:
    return {
        "type": "facts",
        "workdir": str(runs.absolute()) if host.local else host.workdir,
        "python": host.python or (sys.executable if host.local else ""),
        "environment": {**environment, **host.env},
        "gone": list(gone),
        "address": host.address or "",
        "ports": list(host.ports),
        # As many as if all hosts were one machine, and some more for a plan made again with other ports.
        "count": sum(_most_workers(one) for one in spec.hosts) + MARGIN,
        "offset": port_offset,
        "gpus": host.gpus not in (0, ()),
        "people": True,
        "cache": not host.local,
    }


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


def _answer(talk: Talk, order: Mapping[str, object], clock: tuple[float, float] | None = None) -> Found:
    sent, begun = time.time(), time.monotonic()
    talk.send(dict(order))
    told = answer(talk, "facts", _LOOK_S)
    ahead, error = clock or _clock_of(told, sent, time.monotonic() - begun)
    try:
        return parse.found(talk.host, told, clock_s=ahead, clock_error_s=error)
    except ValueError as wrong:
        raise NotFitError(
            f"{talk.host} tells facts that make no sense: {wrong}", hint="see who can write to our package there"
        ) from wrong


def _clock_of(told: wire.Message, sent: float, took: float) -> tuple[float, float]:
    """As `_clock`, from the times at which the host took up a question and answered it."""
    came, went = told.get("came"), told.get("went")
    if not isinstance(came, (int, float)) or not isinstance(went, (int, float)):
        return 0.0, took
    way = max(0.0, took - (went - came))  # there and back
    return float(came) - (sent + way / 2), way / 2


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
