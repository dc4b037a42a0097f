"""What runs have alive on this machine: coordinators, agents and workers of this user, whoever started them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from worker.contract import layout, names, wire
from worker.contract.peers import peer_of

Kind = Literal["coordinator", "agent", "warden", "kept", "worker"]
KEPT_NAME = "launcher-kept"  # of an agent's process that stays warm after its run
_SOCKET = re.compile(r"@(launcher-(?:run-)?\d+-[0-9a-f]{24})$")
PROBE_S = 1.0


@dataclass(frozen=True)
class RunProcess:
    """A living process of some run. `minded`: an agent watches over it; what nobody minds is left over. `kept` is what
    stays warm after its run, for the next one."""

    pid: int
    kind: Kind
    run: str
    host: str
    rank: int | None
    minded: bool
    command: str
    created: float  # seconds since 1970; with the pid it names the process

    @property
    def can_go(self) -> bool:
        """Whether no run would miss it."""
        return not self.minded or self.kind == "kept"


def living(known: Mapping[str, str] | None = None) -> list[RunProcess]:
    """Every process of every run of this user on this machine, coordinators first, then agents, then workers.

    `known` maps a coordinator's socket name to its run's name: a coordinator is asked nothing.
    """
    found: dict[int, RunProcess] = {}
    agents: list[RunProcess] = []
    taken = set(_sockets())
    for name in sorted(taken):
        for process in _behind(name, known or {}):
            found.setdefault(process.pid, process)
            if process.kind == "agent":
                agents.append(process)
    for process in _kept():
        found[process.pid] = process
        agents += [process] if process.kind == "kept" else []
    minded: dict[int, RunProcess] = {}
    for agent in agents:
        for child in _descendants(agent.pid):
            minded[child.pid] = agent
    for other in psutil.process_iter(["pid"]):
        if other.pid not in found and (worker := _worker(other, minded.get(other.pid), taken)):
            found[other.pid] = worker
    order = {"coordinator": 0, "agent": 1, "warden": 2, "kept": 3, "worker": 4}
    return sorted(found.values(), key=lambda p: (p.run, order[p.kind], p.rank if p.rank is not None else -1, p.pid))


def kept_of(run: str) -> list[RunProcess]:
    """The agents that this run has left warm on this machine."""
    return [process for process in _kept() if process.kind == "kept" and process.run == run]


def _kept() -> Iterator[RunProcess]:
    """Agents that are kept, and their wardens. They have no socket of a run: what they keep tells of which it was."""
    for process in psutil.process_iter(["pid", "name"]):
        if process.info["name"] != KEPT_NAME:
            continue
        try:
            if process.uids().real != os.getuid():
                continue
            environ = next((child.environ() for child in process.children()), {})
        except (psutil.Error, OSError):
            continue
        run, host = environ.get(names.RUN, "?"), environ.get(names.HOST, "?")
        warden = _parent(process.pid)
        yield from filter(None, [_process(process.pid, "kept", run, host)])
        if warden is not None and warden.pid > 1:
            yield from filter(None, [_process(warden.pid, "warden", run, host)])


def marks() -> set[str]:
    """The marks of runs' host folders (`layout.mark`) that living processes of this user carry."""
    found = set()
    for process in psutil.process_iter(["pid"]):
        try:
            if process.uids().real == os.getuid():
                found.add(process.environ().get(names.MARK, ""))
        except (psutil.Error, OSError):
            continue
    return found - {""}


def kill(process: RunProcess) -> bool:
    """SIGKILL one process, if it is still the same one; False if it was gone already."""
    try:
        target = psutil.Process(process.pid)
        if abs(target.create_time() - process.created) > 0.01:
            return False
        target.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def _sockets() -> Iterator[str]:
    """The abstract names of this project's listening sockets, of this user."""
    mine = re.compile(rf"launcher-(?:run-)?{os.getuid()}-")
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return
    for name in sorted({m.group(1) for line in lines if (m := _SOCKET.search(line))}):
        if mine.match(name):
            yield name


def _behind(name: str, known: Mapping[str, str]) -> Iterator[RunProcess]:
    coordinator = name.startswith("launcher-run-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(PROBE_S)
        try:
            peer.connect("\0" + name)
            other = peer_of(peer)
            if not other.mine:
                return
            pid = other.pid
            run, host = known.get(name, "?"), ""
            if not coordinator:
                # The kernel names whoever called listen(): the relay that started the agent.
                run, host, pid = _ask(peer)
        except OSError:
            return
    process = _process(pid, "coordinator" if coordinator else "agent", run, host)
    if process is None:
        return
    yield process
    if not coordinator:
        warden = _parent(pid)
        if warden is not None and warden.pid > 1 and (w := _process(warden.pid, "warden", run, host)):
            yield w


def _ask(peer: socket.socket) -> tuple[str, str, int]:
    decoder = wire.Decoder()
    try:
        while data := peer.recv(1 << 16):
            for message in decoder.feed(data):
                if message["type"] == wire.HELLO:
                    return str(message.get("run", "?")), str(message.get("host", "?")), int(message.get("pid", 0))
    except (OSError, wire.WireError, ValueError):
        pass
    return "?", "?", 0


def _parent(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid).parent()
    except psutil.Error:
        return None


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _process(pid: int, kind: Kind, run: str, host: str) -> RunProcess | None:
    try:
        with (process := psutil.Process(pid)).oneshot():
            return RunProcess(pid, kind, run, host, None, True, " ".join(process.cmdline()), process.create_time())
    except psutil.Error:
        return None


def _worker(process: psutil.Process, agent: RunProcess | None, taken: Collection[str]) -> RunProcess | None:
    """A process that an agent minds, or that carries a run's mark in its environment.

    An agent that is frozen or too busy to be asked holds its socket all the same, and so does a warden at its work.
    """
    try:
        with process.oneshot():
            if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
                return None
            environ = process.environ()
            mark = environ.get(names.MARK, "")
            if agent is None and not mark.startswith(f"{os.getuid()}-"):
                return None
            rank = environ.get(names.RANK, "")
            return RunProcess(
                pid=process.pid,
                kind="kept" if agent is not None and agent.kind == "kept" else "worker",
                run=environ.get(names.RUN) or (agent.run if agent else "?"),
                host=environ.get(names.HOST) or (agent.host if agent else "?"),
                rank=int(rank) if rank.isdigit() else None,
                minded=agent is not None or f"launcher-{mark}" in taken,
                command=" ".join(process.cmdline()),
                created=process.create_time(),
            )
    except (psutil.Error, OSError):
        return None


def socket_name(run_folder: str) -> str:
    """The name under which a coordinator's socket stands in /proc/net/unix, without its leading zero byte."""
    return layout.coordinator_socket(run_folder)[1:]
