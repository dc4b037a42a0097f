"""What hosts told of themselves, made by hand, for tests of the checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.check import addresses, remote
from launcher.check.finding import Finding, Seen, Verdict
from launcher.check.found import Disk, Found, Python
from launcher.check.groups import GROUPS
from launcher.errors import NotFitError
from launcher.plan.build import plan
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec, HostSpec, Ssh
from tests.plan_values import gpus_of
from worker.contract.machine.interfaces import Interface

PYTHON = Python(
    "/venv/bin/python", "", "3.11.4", "2.21.0", "tensorflow", "3.15.0", "12.5.1", {"nvidia-cudnn-cu12": "9"}
)
DISK = Disk("/home/me/launcher-work", True, 500 * 10**9, 10**12, 10**6, kind="ext4")


def found(host: str, number: int = 1, *, gpus: int = 0, busy: tuple[int, ...] = (), **keys: Any) -> Found:
    """A host that is fit, at 10.0.0.<number>; what is given says otherwise."""
    values: dict[str, Any] = {
        "machine": f"machine-of-{host}",
        "hostname": host,
        "user": "me",
        "code": "/home/me/launcher-work/code/abc",
        "python3": "3.9.2",
        "cores": 8,
        "instructions": "x86_64 avx avx2",
        "memory_bytes": 64 * 10**9,
        "memory_free_bytes": 60 * 10**9,
        "interfaces": (Interface("lo", "127.0.0.1", 8), Interface("eth0", f"10.0.0.{number}", 24)),
        "outgoing": f"10.0.0.{number}",
        "ephemeral": (32768, 60999),
        "free_ports": tuple(range(20000, 20020)),
        "python": PYTHON,
        "disk": DISK,
        "gpus": gpus_of(host, gpus, busy),
        "driver": "550.54" if gpus else "",
        "nvidia": bool(gpus),
        "open_files": (65536, 65536),
        "shm_bytes": 32 * 10**9,
        "clock_error_s": 0.001,
    }
    return Found(host, **{**values, **keys})


def host(name: str, **keys: Any) -> HostSpec:
    return HostSpec(name, ssh=Ssh(alias=name), **keys)


def seen(spec: ClusterSpec, *hosts: Found, **keys: Any) -> Seen:
    """What a check knows of these hosts, the plan included."""
    known = {one.host: one for one in hosts}
    run = RunFolder(Path("/home/me/runs/job-1"))
    facts = remote.facts_of(spec, run, known)
    values: dict[str, Any] = {"addresses": addresses.choose(spec.hosts, known), "facts": facts}
    try:
        values["plan"] = plan(spec, facts, run=run.name)
    except NotFitError as error:
        values["plan_error"] = error
    return Seen(spec, known, **{**values, **keys})


def of(check: str, about: Seen) -> list[Finding]:
    """All that one group of checks finds."""
    found = GROUPS[check](about)
    assert all(one.check == check for one in found)
    return found


def bad(check: str, about: Seen) -> list[Finding]:
    """What one group finds wrong."""
    return [finding for finding in of(check, about) if finding.verdict in (Verdict.WARN, Verdict.FAIL)]
