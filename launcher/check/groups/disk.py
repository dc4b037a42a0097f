"""The folder of the runs on a host: writable, with room."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict
from launcher.check.found import Found
from launcher.spec.model import HostSpec

LEAST = 100 * 10**6  # less, and not even the start's files are sure to fit
ENOUGH = 2 * 10**9
_FEW_FILES = 1000


def check(seen: Seen) -> list[Finding]:
    return [_one(host, found) for host, found in seen.hosts]


def _one(host: HostSpec, found: Found) -> Finding:
    name, disk = host.name, found.disk
    key = "coordinator.runs" if host.local else "workdir"
    if "workdir" in found.failures:
        why = f"{name}: {disk.path or 'the folder of the runs'} cannot be looked at: {found.failures['workdir']}"
        return _bad(name, Verdict.FAIL, why, f"set `{key}:` to a folder on a disk that answers", "no answer")
    if disk.refused:
        why = f"{name}: nothing can be written in {disk.path}: {disk.refused}"
        return _bad(name, Verdict.FAIL, why, f"set `{key}:` to a folder of your own with room in it", disk.refused)
    room = size(disk.free_bytes)
    if disk.free_bytes < ENOUGH:
        verdict = Verdict.FAIL if disk.free_bytes < LEAST else Verdict.WARN
        why = f"{name}: {room} are free for {disk.path}"
        return _bad(name, verdict, why, f"free some space there, or set `{key}:` to a folder on another disk", room)
    if disk.free_files is not None and disk.free_files < _FEW_FILES:
        why = f"{name}: there is room for {disk.free_files} more files only at {disk.path}"
        return _bad(name, Verdict.WARN, why, "remove files that nobody needs", f"{disk.free_files} files")
    if disk.noexec and found.python.path.startswith(disk.path + "/"):
        why = f"{name}: {disk.path} is mounted noexec, and the workers' Python lies in it"
        return _bad(name, Verdict.FAIL, why, f"set `{key}:`, or `python:`, to a place elsewhere", "noexec")
    kind = f" on {disk.kind}" if disk.kind else ""
    return Finding((name,), "disk", Verdict.OK, f"{room} are free for {disk.path}{kind}", brief=room)


def _bad(host: str, verdict: Verdict, what: str, fix: str, brief: str) -> Finding:
    return Finding((host,), "disk", verdict, what, fix, brief=brief.lower() if len(brief) > 12 else brief)


def size(count: float) -> str:
    """Bytes as people write them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB" if count < 10 else f"{count:.0f} TB"
