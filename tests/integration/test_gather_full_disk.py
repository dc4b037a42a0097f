"""A full disk at home: told once, waited for, nothing lost, nothing doubled."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.gather import disk as disk_module
from launcher.gather.disk import FullDisk
from launcher.gather.mirror import Mirror
from launcher.gather.output import Output
from tests.gather_lab import append, running, source, tree, until, write


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A home of 2 MB."""
    home = tmp_path / "home"
    home.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "x", home], check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield home
    subprocess.run(["umount", "-l", home], check=True)


def test_logs_wait_for_room_and_then_all_of_them_are_there(tmp_path: Path, small: Path) -> None:
    told: list[str] = []
    here = source(tmp_path)
    ballast = write(small / "ballast", bytes(1_500_000))
    for rank in range(3):
        write(Path(here.folder) / f"g1/rank{rank}.log", os.urandom(400_000))
    with running(one := Mirror(here, tell=told.append)):
        until(lambda: bool(told), "the word that it is full")
        append(Path(here.folder) / "g1/rank0.log", b"meanwhile\n")
        assert not one.settle(1.5)
        assert len(told) == 1
        ballast.unlink()
        assert one.settle(30)
        until(lambda: len(told) == 2, "the word that there is room")
    assert "no space left" in told[0]
    assert "room again" in told[1]
    assert tree(here.home) == tree(here.folder)


def test_a_gatherer_can_be_stopped_while_it_waits_for_room(tmp_path: Path, small: Path) -> None:
    here = source(tmp_path)
    write(small / "ballast", bytes(1_500_000))
    write(Path(here.folder) / "agent.log", os.urandom(1_000_000))
    told: list[str] = []
    with running(Mirror(here, tell=told.append)):
        until(lambda: bool(told), "the word that it is full")
    data = (Path(here.folder) / "agent.log").read_bytes()
    assert data.startswith((Path(here.home) / "agent.log").read_bytes())


def test_writes_that_are_cut_short_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for everyone, with a disk that is full now and then in the middle of a write."""
    calls = 0
    real = os.write

    def stingy(descriptor: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, bytes(data)[: max(1, len(data) // 2)])

    monkeypatch.setattr(disk_module, "_RETRY_S", 0.001)
    monkeypatch.setattr(disk_module, "write_some", stingy)
    told: list[str] = []
    here = source(tmp_path)
    for rank in range(3):
        write(Path(here.folder) / f"g1/rank{rank}.log", os.urandom(300_000))
        write(Path(here.folder) / f"output/{rank}.bin", os.urandom(300_000))
    full = FullDisk(told.append)
    with running(one := Mirror(here, full=full), two := Output(here, full=full)):
        assert one.settle(30)
        assert two.settle(30)
    assert tree(here.home) == tree(here.folder)
    assert told
