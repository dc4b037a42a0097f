"""Who lives is asked of the kernel: by abstract sockets with the peer's credentials, and by pid and start time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.runs.alive import agent_pid, coordinator_pid, process_lives, who_lives
from launcher.runs.folder import RunFolder
from worker.contract.layout import agent_socket, coordinator_socket


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "a run's \n folder")


@pytest.fixture
def listening(folder: RunFolder) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(coordinator_socket(str(folder.path)))
        server.listen(2)
        yield server


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_a_listening_coordinator_is_found_with_its_pid_and_a_closed_one_is_gone(
    folder: RunFolder, listening: socket.socket
) -> None:
    assert coordinator_pid(folder, []) == os.getpid()
    listening.close()
    assert coordinator_pid(folder, []) is None


@pytest.mark.usefixtures("listening")
def test_a_coordinator_too_busy_to_be_asked_is_not_called_gone(folder: RunFolder) -> None:
    found = [coordinator_pid(folder, []) for _ in range(10)]
    assert found[0] == os.getpid()
    assert found[-1] == 0
    told = {"type": "coordinator_started", "pid": os.getpid(), "start_time": start_time(os.getpid())}
    assert coordinator_pid(folder, [told]) == os.getpid()


@pytest.fixture
def inherited(folder: RunFolder) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves an agent's socket on which this one has called listen(), as a relay does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(agent_socket(folder.host("here").root))
        server.listen()
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[server.fileno()], start_new_session=True
        )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_an_agent_is_found_by_its_host_folder_and_named_by_its_own_word(
    folder: RunFolder, inherited: subprocess.Popen[bytes]
) -> None:
    told = {"type": "agent_started", "pid": inherited.pid, "start_time": start_time(inherited.pid)}
    assert agent_pid(folder, "here", [told]) == inherited.pid
    assert agent_pid(folder, "here", []) == os.getpid()
    assert agent_pid(folder, "there", [told]) is None


@pytest.mark.usefixtures("inherited")
def test_a_socket_that_outlives_its_agent_is_no_agent(folder: RunFolder) -> None:
    told = {"type": "agent_started", "pid": os.getpid(), "start_time": start_time(os.getpid()) + 1}
    assert agent_pid(folder, "here", [told]) is None


def test_a_killed_agent_is_gone(folder: RunFolder, inherited: subprocess.Popen[bytes]) -> None:
    told = {"type": "agent_started", "pid": inherited.pid, "start_time": start_time(inherited.pid)}
    inherited.kill()
    inherited.wait()
    assert agent_pid(folder, "here", [told]) is None


def test_a_process_is_its_pid_and_start_time_and_a_zombie_is_none() -> None:
    assert process_lives(os.getpid(), start_time(os.getpid()))
    assert not process_lives(os.getpid(), start_time(os.getpid()) + 1)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = start_time(child.pid)
    try:
        assert process_lives(child.pid, began)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process_lives(child.pid, began)
    finally:
        child.kill()
        child.communicate()
    assert not process_lives(child.pid, began)


def test_another_machines_agent_is_not_asked_for_and_another_boots_process_is_dead(folder: RunFolder) -> None:
    mine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = Path("/etc/machine-id")
    here = machine.read_text().strip() if machine.exists() else ""
    alive = who_lives(
        folder,
        [],
        {
            "here": [{"type": "agent_started", "machine_id": here, "boot_id": mine}],
            "far": [{"type": "agent_started", "machine_id": "0" * 32, "boot_id": "another"}],
            "rebooted": [{"type": "agent_started", "machine_id": here, "boot_id": "another"}],
        },
    )
    assert alive.agents == {"here": None, "rebooted": None}
    assert alive.process("here", os.getpid(), start_time(os.getpid()))
    assert not alive.process("rebooted", os.getpid(), start_time(os.getpid()))
