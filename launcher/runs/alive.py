"""Who lives: asked of the kernel, never of a file. No message is sent; the other side sees a connection that closes."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.runs.fields import text
from launcher.runs.folder import RunFolder
from launcher.runs.model import Alive
from worker.contract import records
from worker.contract.layout import agent_socket, coordinator_socket
from worker.contract.records import Record

_DEADLINE_S = 0.25
_CREDENTIALS = struct.Struct("3i")
_START_TIME = 22  # of /proc/PID/stat, counted from 1


def coordinator_pid(folder: RunFolder) -> int | None:
    """The pid of the run's coordinator on this machine, or None."""
    return listener(coordinator_socket(str(folder.path)))


def agent_pid(folder: RunFolder, host: str) -> int | None:
    """The pid of the run's agent for a host, if it is on this machine; or None."""
    return listener(agent_socket(folder.host(host).root))


def anything(folder: RunFolder) -> bool:
    """Whether the run's coordinator, or an agent of it on this machine, is there."""
    if coordinator_pid(folder) is not None:
        return True
    hosts = [path.name for path in folder.hosts.iterdir()] if folder.hosts.is_dir() else []
    return any(agent_pid(folder, host) is not None for host in hosts)


def listener(address: str) -> int | None:
    """The pid of the process of the same user that listens at an abstract socket, or None. Takes 0.25 s at most.

    0 means that somebody listens but is frozen or too busy: its queue of connections is full.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(_DEADLINE_S)
        try:
            probe.connect(address)
        except (BlockingIOError, TimeoutError):
            return 0
        except OSError:
            return None
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    # The names are anybody's to bind, so another user's process is not ours.
    return pid if uid == os.getuid() else None


def process_lives(pid: int, start_time: int) -> bool:
    """Whether this very process is there: the same pid and start time (clock ticks, as in /proc), and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    # The name in brackets may hold anything, brackets and spaces too.
    fields = stat.rpartition(")")[2].split()
    if len(fields) <= _START_TIME - 3:
        return False
    return fields[0] not in ("Z", "X") and fields[_START_TIME - 3] == str(start_time)


def who_lives(folder: RunFolder, host_events: Mapping[str, Sequence[Record]]) -> Alive:
    """Ask for the coordinator and for every agent that is or was on this machine."""
    machine, boot = _first_line("/etc/machine-id"), _first_line("/proc/sys/kernel/random/boot_id")
    started = {host: _agent_started(events) for host, events in host_events.items()}

    def process(host: str, pid: int, start_time: int) -> bool:
        # After a reboot a pid and its start time can be another process's.
        same_boot = text(started[host], "boot_id") in ("", boot)
        return same_boot and process_lives(pid, start_time)

    return Alive(
        coordinator=coordinator_pid(folder),
        agents={
            host: agent_pid(folder, host)
            for host, record in started.items()
            if text(record, "machine_id") in ("", machine)
        },
        process=process,
    )


def _agent_started(events: Sequence[Record]) -> Record:
    return next((record for record in reversed(events) if record["type"] == records.AGENT_STARTED), {})


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
