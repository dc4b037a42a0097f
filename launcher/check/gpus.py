"""The GPUs of this machine and who is on them, as nvidia-smi tells it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import NotFitError
from launcher.plan.facts import Gpu

if TYPE_CHECKING:
    from subprocess import Popen

DEADLINE_S = 10.0
_DEVICES = "--query-gpu=index,uuid,name,memory.total"
_HOLDERS = "--query-compute-apps=gpu_uuid,pid,used_memory,process_name"
_FORMAT = "--format=csv,noheader,nounits"


def find(
    visible: str | None = None, *, devices: Path = Path("/dev"), deadline_s: float = DEADLINE_S
) -> tuple[Gpu, ...]:
    """The GPUs in the driver's order; none, at once, where there is no driver or no nvidia-smi.

    `visible` is CUDA_VISIBLE_DEVICES of the launcher's own environment, by which a batch system or a person may have
    set some aside. Blocks up to `deadline_s`. Raises NotFitError if nvidia-smi fails or does not answer.
    """
    program = shutil.which("nvidia-smi")
    if program is None or not any((devices / name).exists() for name in ("nvidiactl", "nvidia0", "dxg")):
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


def _start(program: str, query: str) -> Popen[str]:
    import subprocess

    try:
        return subprocess.Popen(
            [program, query, _FORMAT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise NotFitError(f"{program} cannot be started: {error.strerror}", hint=_hint(program)) from error


def _answer(process: Popen[str], program: str, deadline_s: float) -> str:
    import subprocess

    try:
        # No wait after the kill: a process that hangs in the driver does not end.
        said, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise NotFitError(f"{program} did not answer within {deadline_s:g} s", hint=_hint(program)) from error
    if process.returncode == 0:
        return said
    if "No devices were found" in said:
        return ""
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    raise NotFitError(f"{program} failed with exit code {process.returncode}: {last}", hint=_hint(program))


def _hint(program: str) -> str:
    return f"see what `{program}` says, or set `gpus: 0` to train on the CPU"


def _rows(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        row = [field.strip() for field in line.split(", ", fields - 1)]
        if len(row) == fields:
            yield row


def _gpus(text: str, holders: Mapping[str, str]) -> Iterator[Gpu]:
    for index, uuid, name, memory in _rows(text, 4):
        if index.isdigit():
            mebibytes = int(memory) if memory.isdigit() else 0
            yield Gpu(int(index), uuid, name, mebibytes * 2**20, holders.get(uuid, ""))


def _holders(text: str) -> Iterator[tuple[str, str]]:
    """UUID → who is on it; the last one told stands for all."""
    for uuid, pid, memory, name in _rows(text, 4):
        user = _user(pid)
        used = f", {memory} MiB" if memory.isdigit() else ""
        yield uuid, f"{name.rsplit('/', 1)[-1]} (pid {pid}{f' of {user}' if user else ''}{used})"


def _user(pid: str) -> str:
    import pwd

    try:
        return pwd.getpwuid(Path("/proc", pid).stat().st_uid).pw_name
    except (OSError, KeyError):
        return ""


def _only(visible: str | None, gpus: list[Gpu]) -> Iterator[Gpu]:
    """What CUDA_VISIBLE_DEVICES leaves: indices or the beginnings of UUIDs, up to the first that names no GPU."""
    if visible is None:
        yield from gpus
        return
    for word in visible.split(","):
        name = word.strip()
        match = [gpu for gpu in gpus if str(gpu.index) == name or (len(name) > 4 and gpu.uuid.startswith(name))]
        if not match:
            return
        yield match[0]
