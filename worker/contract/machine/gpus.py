"""The GPUs of this machine and who is on them, as nvidia-smi tells it."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from .paths import which

if TYPE_CHECKING:
    from subprocess import Popen

DEADLINE_S = 10.0
_DEVICES = "--query-gpu=index,uuid,name,memory.total,driver_version"
_HOLDERS = "--query-compute-apps=gpu_uuid,pid,used_memory,process_name"
_FORMAT = "--format=csv,noheader,nounits"


class Device(NamedTuple):
    """One GPU as its driver names it. `holder` says who is on it, empty when it is free."""

    number: int
    uuid: str
    name: str
    memory_bytes: int
    driver: str
    holder: str


class GpuError(Exception):
    """nvidia-smi fails, or does not answer; `program` is its path."""

    def __init__(self, message: str, program: str) -> None:
        super().__init__(message)
        self.program = program


def find(
    visible: Optional[str] = None, *, devices: "str | os.PathLike[str]" = "/dev", deadline_s: float = DEADLINE_S
) -> Tuple[Device, ...]:
    """The GPUs in the driver's order; none, at once, where there is no driver or no nvidia-smi.

    `visible` is CUDA_VISIBLE_DEVICES of the own environment, by which a batch system or a person may have set some
    aside. Blocks up to `deadline_s`. Raises GpuError.
    """
    program = which("nvidia-smi")
    if program is None or not any(
        os.path.exists(os.path.join(devices, name)) for name in ("nvidiactl", "nvidia0", "dxg")
    ):
        return ()
    # Both at once: each start of nvidia-smi costs as much as all the rest of a plan.
    asked = [_start(program, _DEVICES), _start(program, _HOLDERS)]
    try:
        listed, running = (_answer(process, program, deadline_s) for process in asked)
    finally:
        for process in asked:
            if process.poll() is None:
                process.kill()
    holders = dict(_holders(running))
    return tuple(_only(visible, list(_gpus(listed, holders))))


def _start(program: str, query: str) -> "Popen[str]":
    import subprocess

    try:
        return subprocess.Popen(
            [program, query, _FORMAT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            errors="replace",
        )
    except OSError as error:
        raise GpuError(f"{program} cannot be started: {error.strerror}", program) from error


def _answer(process: "Popen[str]", program: str, deadline_s: float) -> str:
    import subprocess

    try:
        # No wait after the kill: a process that hangs in the driver does not end.
        said, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise GpuError(f"{program} did not answer within {deadline_s:g} s", program) from error
    if process.returncode == 0:
        return said
    if "No devices were found" in said:
        return ""
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    raise GpuError(f"{program} failed with exit code {process.returncode}: {last}", program)


def _rows(text: str, fields: int) -> Iterator[List[str]]:
    for line in text.splitlines():
        row = [field.strip() for field in line.split(", ", fields - 1)]
        if len(row) == fields:
            yield row


def _gpus(text: str, holders: Mapping[str, str]) -> Iterator[Device]:
    for index, uuid, name, memory, driver in _rows(text, 5):
        if index.isdigit():
            mebibytes = int(memory) if memory.isdigit() else 0
            yield Device(int(index), uuid, name, mebibytes * 2**20, driver, holders.get(uuid, ""))


def _holders(text: str) -> Iterator[Tuple[str, str]]:
    """UUID → who is on it; the last one told stands for all."""
    for uuid, pid, memory, name in _rows(text, 4):
        user = _user(pid)
        used = f", {memory} MiB" if memory.isdigit() else ""
        yield uuid, f"{name.rsplit('/', 1)[-1]} (pid {pid}{f' of {user}' if user else ''}{used})"


def _user(pid: str) -> str:
    try:
        return pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name
    except (OSError, KeyError, ValueError):
        return ""


def _only(visible: Optional[str], gpus: List[Device]) -> Iterator[Device]:
    """What CUDA_VISIBLE_DEVICES leaves: indices or the beginnings of UUIDs, up to the first that names no GPU."""
    if visible is None:
        yield from gpus
        return
    for word in visible.split(","):
        name = word.strip()
        match = [gpu for gpu in gpus if str(gpu.number) == name or (len(name) > 4 and gpu.uuid.startswith(name))]
        if not match:
            return
        yield match[0]
