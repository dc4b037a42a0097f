"""The blows themselves. Each is a generator: it strikes, and what it yields says when it wants to go on and undo."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.grounds import Scene
from tests.chaos.plan import Fault, Kind
from tests.chaos.seen import Record, Seen, lives, send, started
from tests.lab.hosts import SshHost

CHECKPOINT_BYTES = 735_000  # of the arrays of the job's model

Ready = Callable[[], bool]
Deed = Iterator[Ready]


class NoTargetError(Exception):
    """What was to be struck is not there, at this moment."""


class Deeds:
    """What can be done in one scene. `views` are the commands that wait for the run, the newest last."""

    def __init__(self, scene: Scene, seen: Seen, views: list[subprocess.Popen[bytes]]) -> None:
        self._scene = scene
        self._seen = seen
        self._views = views
        self._down: set[str] = set()

    def do(self, fault: Fault) -> Deed:
        """Strikes when it is asked for the first time. Raises NoTargetError, without having done anything."""
        name = self._scene.names[fault.host]
        ways: dict[Kind, Callable[[], Deed]] = {
            Kind.KILL_WORKER: lambda: self._kill(self._rank(fault.rank)),
            Kind.KILL_CHIEF: lambda: self._kill(self._rank(0)),
            Kind.KILL_AGENT: lambda: self._kill(self._agent(name)),
            Kind.KILL_WARDEN: lambda: self._kill(self._warden(name)),
            Kind.KILL_ZYGOTE: lambda: self._kill(self._zygote(name)),
            Kind.KILL_HOST: lambda: self._kill(*self._all(name)),
            Kind.CRASH: lambda: self._crash(name, fault),
            Kind.REBOOT: lambda: self._reboot(name, fault),
            Kind.KILL_SSHD: lambda: self._kill_sshd(name, fault),
            Kind.FREEZE_WORKER: lambda: self._freeze(self._rank(fault.rank), fault),
            Kind.FREEZE_AGENT: lambda: self._freeze(self._agent(name), fault),
            Kind.FREEZE_COORDINATOR: lambda: self._freeze(self._coordinator(), fault),
            Kind.KILL_COORDINATOR: lambda: self._kill_coordinator(fault),
            Kind.CUT_HOME: lambda: self._cut(name, fault, [self._scene.here]),
            Kind.CUT_PEERS: lambda: self._cut(name, fault, self._peers(name)),
            Kind.CUT_ALL: lambda: self._cut(name, fault, [""]),
            Kind.SLOW: lambda: self._slow(name, fault),
            Kind.FILL_HOST: lambda: self._fill(self._disk(name), fault),
            Kind.FILL_HOME: lambda: self._fill(self._scene.launcher.runs, fault),
            Kind.CORRUPT: lambda: self._corrupt(fault),
        }
        return ways[fault.kind]()

    # Processes.

    def _kill(self, *targets: tuple[int, int]) -> Deed:
        if not any([send(pid, begun, signal.SIGKILL) for pid, begun in targets]):
            raise NoTargetError
        yield lambda: not any(lives(pid, begun) for pid, begun in targets)

    def _freeze(self, target: tuple[int, int], fault: Fault) -> Deed:
        if not send(*target, signal.SIGSTOP):
            raise NoTargetError
        yield _later(fault)
        send(*target, signal.SIGCONT)

    def _kill_coordinator(self, fault: Fault) -> Deed:
        target = self._coordinator()
        if self._seen.ended or not send(*target, signal.SIGKILL):
            raise NoTargetError
        yield lambda: not lives(*target)
        yield _later(fault)
        view = self._scene.launcher.start("attach", self._scene.run.name, "--plain")
        self._views.append(view)
        yield lambda: view.poll() is not None or self._coordinator() != target

    # Machines.

    def _crash(self, name: str, fault: Fault) -> Deed:
        self._agent(name)
        with self._down_for_a_while(name) as host:
            host.crash()
            yield _later(fault)
            host.start()

    def _reboot(self, name: str, fault: Fault) -> Deed:
        self._agent(name)
        with self._down_for_a_while(name):
            host = self._scene.net(name)
            host.crash()
            yield _later(fault)
            host.reboot()

    def _kill_sshd(self, name: str, fault: Fault) -> Deed:
        with self._down_for_a_while(name) as host:
            host.kill()
            yield _later(fault)
            host.start()

    @contextlib.contextmanager
    def _down_for_a_while(self, name: str) -> Iterator[SshHost]:
        """A host that is down already cannot go down, nor come back twice."""
        host = self._scene.hosts[name]
        if host is None or name in self._down:
            raise NoTargetError
        self._down.add(name)
        try:
            yield host
        finally:
            self._down.discard(name)

    # Links.

    def _peers(self, name: str) -> list[str]:
        return [self._scene.net(other).address for other in self._scene.names if other != name]

    def _cut(self, name: str, fault: Fault, peers: list[str]) -> Deed:
        host = self._scene.net(name)
        for peer in peers:
            host.cut(fault.direction, peer=peer)
        yield _later(fault)
        host.heal()

    def _slow(self, name: str, fault: Fault) -> Deed:
        host = self._scene.net(name)
        host.slow("2mbit", fault.direction)
        yield _later(fault)
        host.heal()

    # Disks.

    def _disk(self, name: str) -> Path:
        host = self._scene.hosts[name]
        return self._scene.launcher.runs if host is None else host.home

    def _fill(self, disk: Path, fault: Fault) -> Deed:
        if not disk.is_mount():
            raise NoTargetError
        ballast = disk / "ballast"
        for piece in (1 << 22, 1 << 12):
            with contextlib.suppress(OSError), open(ballast, "ab", buffering=0) as file:
                while file.write(bytes(piece)) == piece:
                    pass
        yield _later(fault)
        ballast.unlink()

    def _corrupt(self, fault: Fault) -> Deed:
        """A byte of a checkpoint that is half home is turned. Where links can be slow they are, to meet one."""
        hosts = [host for host in self._scene.hosts.values() if host is not None]
        slowed = [self._scene.net(host.name) for host in hosts] if self._scene.here else []
        for host in slowed:
            host.slow("4mbit", "out")
        met = False

        def half() -> bool:
            nonlocal met
            met = met or any(_turn_a_byte(path, fault.number) for path in self._halves())
            return met

        until = time.monotonic() + 12
        yield lambda: half() or time.monotonic() > until
        for host in slowed:
            host.heal()
        if not met:
            raise NoTargetError

    def _halves(self) -> list[Path]:
        """Files of checkpoints that are on their way home."""
        return list(self._scene.run.glob("hosts/*/.gather/coming/g*/arrays.npz"))

    # Who is who.

    def _rank(self, rank: int) -> tuple[int, int]:
        return _process(self._seen.rank(rank))

    def _agent(self, name: str) -> tuple[int, int]:
        return _process(self._seen.newest(name, "agent_started"))

    def _warden(self, name: str) -> tuple[int, int]:
        agent = self._seen.newest(name, "agent_started")
        if agent is None or not lives(agent["pid"], agent["start_time"]):
            raise NoTargetError
        return agent["warden_pid"], started(agent["warden_pid"])

    def _zygote(self, name: str) -> tuple[int, int]:
        return _process(self._seen.newest(name, "zygote_ready"))

    def _all(self, name: str) -> list[tuple[int, int]]:
        found = [self._agent(name), self._warden(name)]
        found += [_process(record) for record in self._seen.ranks_of(name)]
        with contextlib.suppress(NoTargetError):
            found.append(self._zygote(name))
        return found

    def _coordinator(self) -> tuple[int, int]:
        found = self._seen.of_run("coordinator_started")
        return _process(found[-1] if found else None)


def _process(record: Record | None) -> tuple[int, int]:
    if record is None:
        raise NoTargetError
    return record["pid"], record["start_time"]


def _later(fault: Fault) -> Ready:
    until = time.monotonic() + fault.hold_s
    return lambda: time.monotonic() >= until


def _turn_a_byte(path: Path, place: int) -> bool:
    """Turn a bit of what is there of a file; whether anything was, and more is to come for a while."""
    try:
        with open(path, "r+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if not 4096 < size < CHECKPOINT_BYTES * 3 // 4:
                return False
            file.seek(size // 2 + place)
            byte = file.read(1)
            file.seek(size // 2 + place)
            file.write(bytes([byte[0] ^ 1]))
            return True
    except OSError:
        return False
