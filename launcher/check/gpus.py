"""The GPUs of this machine, as the plan knows them."""

from __future__ import annotations

from pathlib import Path

from launcher.errors import NotFitError
from launcher.plan.facts import Gpu
from worker.contract.machine import gpus

DEADLINE_S = gpus.DEADLINE_S


def find(
    visible: str | None = None, *, devices: Path = Path("/dev"), deadline_s: float = DEADLINE_S
) -> tuple[Gpu, ...]:
    """See worker.contract.machine.gpus. Raises NotFitError if nvidia-smi fails or does not answer."""
    try:
        found = gpus.find(visible, devices=devices, deadline_s=deadline_s)
    except gpus.GpuError as error:
        raise NotFitError(
            str(error), hint=f"see what `{error.program}` says, or set `gpus: 0` to train on the CPU"
        ) from error
    return tuple(Gpu(one.number, one.uuid, one.name, one.memory_bytes, one.holder) for one in found)
