"""Who lives: asked of the kernel, never of a file. No message is sent; the other side sees a connection that closes."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.runs.fields import integer, text, texts
from launcher.runs.folder import RunFolder
from launcher.runs.model import Alive
from worker.contract import records
from worker.contract.layout import agent_socket, coordinator_socket
from worker.contract.peers import peer_of
from worker.contract.records import Record

_DEADLINE_S = 0.25
_START_TIME = 22  # of /proc/PID/stat, counted from 1


def coordinator_pid(folder: RunFolder, run_events: Sequence[Record]) -> int | None:
    """The pid of the run's coordinator on this machine, 0 if it is there but frozen or too busy; None if it is gone."""
    peer = listener(coordinator_socket(str(folder.path)))
    told = _newest(run_events, records.COORDINATOR_STARTED)
    if peer is None:
        return None
    if _process_of(told):
        return integer(told, "pid")
    return peer if peer == 0 or Path(f"/proc/{peer}").exists() else None


def agent_pid(folder: RunFolder, host: str, events: Sequence[Record]) -> int | None:
    """The pid of the run's agent for a host, if it is on this machine; 0 and None as above.

    The kernel names whoever called listen(): the relay that started the agent. So the agent's own word says its pid.
    Its warden holds the socket for a moment longer, and is no agent.
    """
    peer = listener(agent_socket(folder.host(host).root))
    told = _newest(events, records.AGENT_STARTED)
    if peer is None or not integer(told, "start_time"):
        return peer
    return integer(told, "pid") if _process_of(told) else None


def anything(folder: RunFolder) -> bool:
    """Whether the run's coordinator, or an agent of it on this machine, is there. Reads no file."""
    if coordinates(folder):
        return True
    hosts = [path.name for path in folder.hosts.iterdir()] if folder.hosts.is_dir() else []
    return any(listener(agent_socket(folder.host(host).root)) is not None for host in hosts)


def coordinates(folder: RunFolder) -> bool:
    """Whether the run has a coordinator on this machine, be it frozen. Reads no file."""
    return listener(coordinator_socket(str(folder.path))) is not None


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
        peer = peer_of(probe)
    return peer.pid if peer.mine else None


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


def who_lives(folder: RunFolder, run_events: Sequence[Record], host_events: Mapping[str, Sequence[Record]]) -> Alive:
    """Ask for the coordinator and for every agent that is or was on this machine."""
    machine = _first_line("/etc/machine-id")
    remote = texts(_newest(run_events, records.COORDINATOR_STARTED), "remote", most=10_000)

    def process(host: str, pid: int, start_time: int) -> bool:
        return _same_boot(_newest(host_events[host], records.AGENT_STARTED)) and process_lives(pid, start_time)

    return Alive(
        coordinator=coordinator_pid(folder, run_events),
        agents={
            host: agent_pid(folder, host, events)
            for host, events in host_events.items()
            if host not in remote and text(_newest(events, records.AGENT_STARTED), "machine_id") in ("", machine)
        },
        process=process,
    )


def _process_of(record: Record) -> bool:
    pid, start_time = integer(record, "pid"), integer(record, "start_time")
    return bool(pid and start_time) and _same_boot(record) and process_lives(pid or 0, start_time or 0)


def _same_boot(record: Record) -> bool:
    # After a reboot a pid and its start time can be another process's.
    return text(record, "boot_id") in ("", _first_line("/proc/sys/kernel/random/boot_id"))


def _newest(events: Sequence[Record], kind: str) -> Record:
    return next((record for record in reversed(events) if record["type"] == kind), {})


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
