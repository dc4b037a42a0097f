"""Everything that can go wrong before a worker starts: reach the hosts, stage what travels, gather facts, plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.check import local as local_facts
from launcher.errors import RunError, UsageError
from launcher.hosts.base import Host
from launcher.hosts.local import LocalHost
from launcher.plan.facts import Facts
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec
from launcher.stage import code as stage_code
from launcher.stage import source as stage_source
from launcher.stage.here import data_here
from launcher.supervise.foreground import Front
from launcher.supervise.order import Order, Prepared
from launcher.supervise.planning import Planning


def prepare(order: Order, front: Front) -> Prepared:
    """Reach, stage, gather the facts, and plan. Raises NotFitError, SpecError or UsageError."""
    spec, run = order.spec, order.run
    if not spec.plain:
        from launcher.supervise import away  # paramiko and all that: not for a run on this machine alone

        return away.prepare(order, front, stage_here)
    try:
        staged = {host.name: stage_here(spec, run, host.name) for host in spec.hosts}
    except OSError as error:
        raise RunError(f"staging into {run.path} failed: {error.strerror or error}", hint="`df -h` tells") from error
    codes = {name: code for name, (code, _) in staged.items()}
    sources = {name: source for name, (_, source) in staged.items()}

    planning = planning_here(order, codes, sources)
    hosts: dict[str, Host] = {host.name: LocalHost(host.name) for host in spec.hosts}
    return Prepared(order, hosts, planning.first(lambda plan: plan(planning.look())), planning.again)


def planning_here(order: Order, codes: Mapping[str, str], sources: Mapping[str, str]) -> Planning:
    """The plans of a run on this machine alone, of what is staged at these places, by host."""
    spec, run = order.spec, order.run

    def facts(_: Sequence[str]) -> Facts:
        found = local_facts.gather(spec, run.path, codes=codes, sources=sources)
        return {name: replace(one, data=data_here(spec.data)) for name, one in found.items()} if spec.data else found

    return Planning(order, facts, lambda folder, hosts: dict.fromkeys(hosts, folder))


def find_secrets(spec: ClusterSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The values of the spec's secrets. Raises UsageError naming those that are not set."""
    missing = [name for name in spec.secrets if name not in environ]
    if missing:
        raise UsageError(
            f"the spec names secrets that are not set here: {', '.join(missing)}",
            hint=f"export {missing[0]}=… in this shell, then run the command again",
        )
    return {name: environ[name] for name in spec.secrets}


def stage_here(spec: ClusterSpec, run: RunFolder, host: str) -> tuple[str, str]:
    """(our package, the user's folder) in the run's folder of a host that is this machine. Raises OSError."""
    folder = run.host(host)
    run.hosts.mkdir(mode=0o700, exist_ok=True)
    Path(folder.root).mkdir(mode=0o700, exist_ok=True)
    code = stage_code.stage(folder)
    if spec.runs_own_code:
        return code, stage_source.stage(spec.sync, folder)
    empty = Path(folder.sources("none"))
    empty.parent.mkdir(mode=0o700, exist_ok=True)
    empty.mkdir(mode=0o700, exist_ok=True)
    return code, str(empty)
