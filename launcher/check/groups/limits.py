"""What the system allows our processes: open files, processes, memory, shared memory."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict
from launcher.check.found import Found
from launcher.check.groups.disk import size
from launcher.spec.model import HostSpec

_FILES, _FILES_FOR_EACH = 256, 8  # of a worker, and for every other one
_PROCESSES = 1024  # threads count as processes here, and a worker has some hundred
_MEMORY = 10**9  # for each worker: TensorFlow alone takes half of it
_SHARED = 512 * 2**20  # NCCL's, with several GPUs in a worker


def check(seen: Seen) -> list[Finding]:
    world = len(seen.plan.ranks) if seen.plan else len(seen.spec.hosts)
    findings = []
    for host, found in seen.hosts:
        bad = [*_files(host, found, world), *_processes(host, found), *_memory(seen, host, found)]
        files = "no limit" if found.open_files[0] is None else str(found.open_files[0])
        findings += bad or [
            Finding(
                (host.name,),
                "limits",
                Verdict.OK,
                f"{files} for open files, {size(found.memory_free_bytes)} of memory free",
                brief="ok",
            )
        ]
    return findings


def _files(host: HostSpec, found: Found, world: int) -> list[Finding]:
    soft, hard = found.open_files
    needed = _FILES + _FILES_FOR_EACH * world
    if soft is None or soft >= needed:
        return []
    enough = hard is None or hard >= needed
    what = f"{host.name}: a process may open {soft} files, and {world} workers need about {needed}"
    fix = (
        f"on {host.name}: `ulimit -n {needed}` in the login shell's start-up file"
        if enough
        else f"on {host.name}, as root: `{found.user} hard nofile {needed}` in /etc/security/limits.conf"
    )
    return [Finding((host.name,), "limits", Verdict.WARN, what, fix, brief=f"{soft} files")]


def _processes(host: HostSpec, found: Found) -> list[Finding]:
    soft = found.processes[0]
    if soft is None or soft >= _PROCESSES:
        return []
    what = f"{host.name}: {found.user} may have {soft} processes and threads, and a worker needs some hundred"
    fix = f"on {host.name}: raise `ulimit -u`, or nproc in /etc/security/limits.conf"
    return [Finding((host.name,), "limits", Verdict.WARN, what, fix, brief=f"{soft} processes")]


def _memory(seen: Seen, host: HostSpec, found: Found) -> list[Finding]:
    workers = [rank for rank in seen.plan.ranks if rank.host == host.name] if seen.plan else []
    findings = []
    needed = _MEMORY * max(1, len(workers))
    if found.memory_bytes and found.memory_free_bytes < needed:
        what = (
            f"{host.name}: {size(found.memory_free_bytes)} of memory are free, and {size(needed)} are needed at least"
        )
        fix = f"end what else runs on {host.name}, or start fewer workers there"
        findings.append(Finding((host.name,), "limits", Verdict.WARN, what, fix, brief="little memory"))
    if found.shm_bytes is not None and found.shm_bytes < _SHARED and any(len(rank.gpus) > 1 for rank in workers):
        what = f"{host.name}: /dev/shm holds {size(found.shm_bytes)}, and NCCL needs more between several GPUs"
        fix = "a container: start it with `--shm-size=1g` or `--ipc=host`"
        findings.append(Finding((host.name,), "limits", Verdict.WARN, what, fix, brief="small /dev/shm"))
    return findings
