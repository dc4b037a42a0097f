"""The hosts of a spec: host_defaults folded in, and what must hold of them one by one and together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from launcher.spec.model import HostSpec, Ssh
from launcher.spec.nodes import Loc
from launcher.spec.problems import Report
from launcher.spec.schema import Host, HostDefaults, SshAddress
from launcher.spec.types import A_NAME, NAME
from launcher.spec.values import matching
from worker.contract import names

_SET_BY_US = {names.TF_CONFIG: "", "CUDA_VISIBLE_DEVICES": "say which GPUs with `gpus:`", "CUDA_DEVICE_ORDER": ""}
_RANGE = "as many ports as workers on the host, at least"


def resolve_hosts(
    hosts: Sequence[tuple[int, Host]],
    defaults: HostDefaults | None,
    report: Report,
    key_path: Callable[[str], str],
) -> tuple[HostSpec, ...]:
    """Each host (with its place in the file's list) as it will be planned; problems go to the report."""
    shared = defaults.given if defaults else {}
    if "workers" in shared and "gpus_per_worker" in shared:
        report.add(("host_defaults", "gpus_per_worker"), "given together with `workers`", expected="one of the two")
    refuse_set_variables(shared.get("env", {}), ("host_defaults", "env"), report)
    resolved = [(index, _resolve(host, shared, ("hosts", index), report, key_path)) for index, host in hosts]
    _names_are_unique(resolved, report)
    for index, host in resolved:
        _gpus_split_evenly(host, ("hosts", index), report)
    _gpus_per_worker_are_equal(resolved, report)
    _ports_suffice(resolved, report)
    return tuple(host for _, host in resolved)


def known_workers(host: HostSpec) -> int | None:
    """How many workers a host will have, or None where that is found at check."""
    if host.gpus_per_worker is None:
        return host.workers or 1
    gpus = _gpu_count(host)
    return None if gpus is None else gpus // host.gpus_per_worker


def refuse_set_variables(variables: Any, loc: Loc, report: Report) -> None:
    """A variable that the launcher sets itself cannot be given."""
    for key in variables:
        if key in _SET_BY_US or key.startswith("LAUNCHER_"):
            at = (*loc, key) if isinstance(variables, dict) else loc
            report.add(at, f"`{key}` is set by the launcher", hint=_SET_BY_US.get(key, ""))


def _resolve(host: Host, shared: dict[str, Any], loc: Loc, report: Report, key_path: Callable[[str], str]) -> HostSpec:
    own = host.given
    if "workers" in own and "gpus_per_worker" in own:
        report.add((*loc, "gpus_per_worker"), "given together with `workers`", expected="one of the two")
    # One of the two at a host goes before the other one in host_defaults.
    beaten = {"workers": "gpus_per_worker", "gpus_per_worker": "workers"}
    inherited = {key: value for key, value in shared.items() if beaten.get(key) not in own}
    refuse_set_variables(own.get("env", {}), (*loc, "env"), report)
    merged = {**inherited, **own, "env": {**shared.get("env", {}), **own.get("env", {})}}
    local, ssh = merged.pop("local", False), merged.pop("ssh", None)
    if local and ssh:
        report.add(loc, "both `ssh:` and `local: true`", expected="one of the two")
    elif not local and not ssh:
        report.add(
            loc, "neither `ssh:` nor `local: true`", expected=Host.shape, hint="`ssh:` takes an alias or a mapping"
        )
    name = merged.pop("name", None) or _default_name(local, ssh, loc, report)
    return HostSpec(name=name, local=bool(local), ssh=_ssh(ssh, key_path), **merged)


def _default_name(local: bool, ssh: SshAddress | None, loc: Loc, report: Report) -> str:
    name = "localhost" if local or ssh is None else ssh.alias or ssh.host
    try:
        return matching(NAME, A_NAME)(name)
    except ValueError:
        report.add((*loc, "name"), "missing, and the address cannot be a name", expected=A_NAME, found=name)
        return ""


def _ssh(ssh: SshAddress | None, key_path: Callable[[str], str]) -> Ssh | None:
    if ssh is None:
        return None
    given = ssh.given
    return Ssh(**{**given, "key": key_path(given["key"])} if "key" in given else given)


def _names_are_unique(hosts: Sequence[tuple[int, HostSpec]], report: Report) -> None:
    first: dict[str, int] = {}
    for index, host in hosts:
        # Folders are called by these names, and some file systems know no case.
        taken_by = first.setdefault(host.name.lower(), index)
        if taken_by != index and host.name:
            report.add(
                ("hosts", index),
                f"the name `{host.name}` is taken by hosts[{taken_by}]",
                expected="a name for each host that no other one has",
                hint="say `name:` at one of them",
            )


def _gpu_count(host: HostSpec) -> int | None:
    if isinstance(host.gpus, tuple):
        return len(host.gpus)
    return host.gpus if isinstance(host.gpus, int) else None


def _gpus_split_evenly(host: HostSpec, loc: Loc, report: Report) -> None:
    gpus = _gpu_count(host)
    each, workers = host.gpus_per_worker, host.workers or 1
    if gpus is None:
        return
    if each is not None and (gpus == 0 or gpus % each):
        report.add(loc, f"{gpus} GPUs do not make workers of {each} each", expected=f"a multiple of {each} GPUs")
    elif each is None and gpus % workers:
        report.add(
            loc, f"{gpus} GPUs cannot be split evenly among {workers} workers", expected=f"a multiple of {workers}"
        )


def _gpus_per_worker(host: HostSpec) -> int | None:
    gpus, workers = _gpu_count(host), host.workers or 1
    if host.gpus_per_worker is not None:
        return host.gpus_per_worker
    return None if gpus is None or gpus % workers else gpus // workers


def _gpus_per_worker_are_equal(hosts: Sequence[tuple[int, HostSpec]], report: Report) -> None:
    known = [(index, each) for index, host in hosts if (each := _gpus_per_worker(host)) is not None]
    for index, each in known[1:]:
        first, expected = known[0]
        if each != expected:
            report.add(
                ("hosts", index),
                f"{each} GPUs for each worker",
                expected=f"{expected}, as at hosts[{first}]: every worker must have the same number",
                hint="`gpus_per_worker` in host_defaults makes more workers where there are more GPUs",
            )


def _ports_suffice(hosts: Sequence[tuple[int, HostSpec]], report: Report) -> None:
    here: set[int] = set()
    workers_here = 0
    for index, host in hosts:
        workers = known_workers(host) or 1
        first, last = host.ports
        if last - first + 1 < workers:
            loc: Loc = ("hosts", index, "ports") if _own_ports(report, index) else ("host_defaults", "ports")
            report.add(
                loc, f"{last - first + 1} ports for {workers} workers of `{host.name}`", expected=f"{_RANGE} {workers}"
            )
        if host.local:
            here.update(range(first, last + 1))
            workers_here += workers
            if len(here) < workers_here <= len(here) + workers - 1 and workers_here > workers:
                report.add(
                    ("hosts", index),
                    f"{len(here)} ports for {workers_here} workers on this machine",
                    expected=f"{_RANGE} {workers_here}",
                )


def _own_ports(report: Report, index: int) -> bool:
    hosts = report.root.child("hosts")
    host = hosts.child(index) if hosts else None
    return host is not None and host.child("ports") is not None
