"""What of a run is alive on a host of the lab, and what lies there and at home."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from tests.integration.far import Far
from tests.integration.harness import describe, wait_for
from tests.lab.hosts import SshHost


def alive_on(host: SshHost) -> list[str]:
    """Every process on the host but its sshd and that one's connections."""
    found = []
    for process in psutil.Process(host.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and not process.name().startswith("sshd"):
                found.append(describe(process))
    return found


def nothing_alive(far: Far, timeout_s: float = 15.0) -> None:
    """Fails if anything of a run is still alive on any host, or here, after so long."""

    def left() -> list[str]:
        return [text for host in far.hosts for text in alive_on(host)] + [describe(p) for p in far.launcher.alive()]

    with contextlib.suppress(AssertionError):
        wait_for(lambda: not left(), "nothing to be alive", timeout_s)
    assert left() == []


def folder_on(host: SshHost, run: str = "far-*") -> Path:
    """The run's folder on the host."""
    return next(host.home.glob(f"launcher-work/{run}/{host.name}"))


def logs_of(folder: Path) -> dict[str, bytes]:
    """Journal, logs and progress files of a host's folder, there or at home."""
    names = ["events.jsonl", "agent.log", *(str(p.relative_to(folder)) for p in folder.glob("g*/rank*.*l*"))]
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def same_at_home(far: Far, run: Path) -> None:
    """Fails unless every log of every host is at home, byte for byte."""
    for host in far.hosts:
        assert logs_of(run / "hosts" / host.name) == logs_of(folder_on(host, run.name))
