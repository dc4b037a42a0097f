"""GPUs as a (fake) nvidia-smi tells them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from launcher.check import gpus
from launcher.errors import NotFitError
from launcher.plan.facts import Gpu

LISTED = """\
0, GPU-aa01, NVIDIA H100 80GB HBM3, 81559, 550.54
1, GPU-bb02, NVIDIA H100 80GB HBM3, 81559, 550.54
2, GPU-cc03, odd, [N/A], 550.54
"""
MEMORY = 81559 * 2**20


class Smi:
    """A folder with device nodes and, on the PATH, an nvidia-smi that answers as it is told."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.devices = path / "dev"
        self.devices.mkdir()
        (self.devices / "nvidiactl").touch()
        (path / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{path / 'bin'}:{os.environ['PATH']}")

    def says(self, listed: str = LISTED, running: str = "", before: str = "") -> None:
        (self.path / "listed").write_text(listed)
        (self.path / "running").write_text(running)
        script = self.path / "bin" / "nvidia-smi"
        script.write_text(
            f"#!/bin/sh\n{before}\ncd '{self.path}'\ncase $1 in --query-gpu*) cat listed;; *) cat running;; esac\n"
        )
        script.chmod(0o755)

    def find(self, visible: str | None = None, deadline_s: float = 10.0) -> tuple[Gpu, ...]:
        return gpus.find(visible, devices=self.devices, deadline_s=deadline_s)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    return Smi(tmp_path, monkeypatch)


def test_gpus_and_their_holders_are_found(smi: Smi) -> None:
    smi.says(running=f"GPU-bb02, {os.getpid()}, 1234, /usr/bin/python, with, commas\nGPU-zz, [N/A], [N/A], x\nnoise\n")
    found = smi.find()
    assert [(gpu.index, gpu.uuid, gpu.memory_bytes) for gpu in found] == [
        *((0, "GPU-aa01", MEMORY), (1, "GPU-bb02", MEMORY), (2, "GPU-cc03", 0)),
    ]
    assert [bool(gpu.holder) for gpu in found] == [False, True, False]
    assert f"pid {os.getpid()} of " in found[1].holder
    assert "1234 MiB" in found[1].holder


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, [0, 1, 2]), ("", []), ("-1", []), ("2,0", [2, 0]), ("GPU-bb", [1]), ("1,9,0", [1]), (" 1 , 2", [1, 2])],
)
def test_gpus_that_the_environment_sets_aside_are_left_alone(
    smi: Smi, visible: str | None, expected: list[int]
) -> None:
    smi.says()
    assert [gpu.index for gpu in smi.find(visible)] == expected


def test_without_a_driver_or_without_nvidia_smi_there_are_none_at_once(smi: Smi) -> None:
    begun = time.perf_counter()
    assert smi.find() == ()  # nothing on the PATH
    smi.says(before="exit 9")
    (smi.devices / "nvidiactl").unlink()
    assert smi.find() == ()
    assert time.perf_counter() - begun < 0.05


def test_no_devices_are_no_error(smi: Smi) -> None:
    smi.says(before="echo 'No devices were found'; exit 6")
    assert smi.find() == ()


def test_a_driver_that_fails_is_told_with_the_way_out(smi: Smi) -> None:
    smi.says(before="echo 'Failed to initialize NVML: Driver/library version mismatch' >&2; exit 18")
    with pytest.raises(NotFitError, match="exit code 18: Failed to initialize NVML: Driver/library") as caught:
        smi.find()
    assert "gpus: 0" in caught.value.hint


def test_a_driver_that_hangs_costs_the_deadline_only_and_leaves_no_process(smi: Smi) -> None:
    smi.says(before=f"echo $$ >> '{smi.path}/pids'; exec sleep 600")
    begun = time.perf_counter()
    with pytest.raises(NotFitError, match=r"did not answer within 0.5 s"):
        smi.find(deadline_s=0.5)
    assert time.perf_counter() - begun < 5
    deadline = time.monotonic() + 10
    pids = [int(pid) for pid in (smi.path / "pids").read_text().split()]
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
