"""For tests: an agent reached through a real relay, and the proof that nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.talk import Talk
from worker.contract import layout, records, wire
from worker.contract.layout import HostFolder

WORKER = Path(__file__).parents[2] / "worker"
TRAINER = Path(__file__).with_name("fake_trainer.py")
TIMEOUTS = {"stop_s": 1.0, "checkpoint_s": 5.0, "start_s": 30.0, "stall_s": 30.0}
PATIENCE_S = 15.0


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for a condition; its value."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {patience_s} s in vain: {what}"
        time.sleep(0.005)


class AgentClient:
    """One connection to the agent of a folder, with its own relay process."""

    def __init__(
        self,
        folder: Path,
        *,
        start: bool = True,
        lease_s: float = 60.0,
        worker: Path = WORKER,
        talk: Talk | None = None,
        python: str = sys.executable,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._patience_s = patience_s
        self.place = HostFolder(str(folder))
        self.talk = talk or Talk(str(folder), "here", "a-run", lease_s)
        self.events: list[records.Record] = []
        self.messages: list[wire.Message] = []
        self.started_at = time.monotonic()
        self.relay = subprocess.Popen(
            [python, str(worker), "relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            env=env,
            bufsize=0,
        )
        assert self.relay.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.relay.stdout, selectors.EVENT_READ)
        self.closed = False
        self.send(self.talk.reach(start))

    def send(self, data: bytes) -> None:
        assert self.relay.stdin is not None
        self.relay.stdin.write(data)

    def read(self, patience_s: float = 0.05) -> None:
        """Take in what there is."""
        assert self.relay.stdout is not None
        if self.closed:
            time.sleep(0.005)
        elif self._selector.select(patience_s):
            data = os.read(self.relay.stdout.fileno(), 1 << 16)
            self.closed = not data
            for message in self.talk.feed(data):
                self.messages.append(message)
                if message["type"] == wire.EVENT:
                    self.events.append(message["event"])

    def wait(self, condition: Callable[[], Any], what: str, patience_s: float | None = None) -> Any:
        """Read until a condition holds; its value."""
        patience_s = patience_s or self._patience_s
        deadline = time.monotonic() + patience_s
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"waited {patience_s} s in vain: {what}; {self.events[-8:]}"
            self.read()

    def message(self, type_: str, **fields: Any) -> wire.Message:
        """The next message like this, taken off the list."""

        def found() -> wire.Message | None:
            for index, message in enumerate(self.messages):
                if message["type"] == type_ and all(message.get(key) == value for key, value in fields.items()):
                    return self.messages.pop(index)
            return None

        message: wire.Message = self.wait(found, f"{type_} {fields}")
        return message

    def event(self, type_: str, **fields: Any) -> records.Record:
        """The first event like this, waited for."""

        def found() -> records.Record | None:
            return next(
                (e for e in self.events if e["type"] == type_ and all(e.get(k) == v for k, v in fields.items())), None
            )

        event: records.Record = self.wait(found, f"{type_} {fields}")
        return event

    def command(self, term: int = 1) -> AgentClient:
        self.message(wire.HELLO)
        self.send(self.talk.command(term))
        self.message(wire.COMMANDED, term=term)
        return self

    def start(
        self,
        ranks: Sequence[dict[str, Any]],
        generation: int = 1,
        keep: int = 3,
        zygote: bool | None = None,
        until_home: bool = False,
        **timeouts: float,
    ) -> AgentClient:
        times = {**TIMEOUTS, **timeouts}
        self.send(self.talk.start(generation, list(ranks), times, keep, until_home, zygote))
        return self

    def started(self, *ranks: int, generation: int = 1) -> list[int]:
        """The pids of ranks, once they run."""
        return [int(self.event(records.RANK_STARTED, rank=rank, generation=generation)["pid"]) for rank in ranks]

    def stepping(self, *ranks: int, generation: int = 1) -> list[int]:
        """The pids of ranks, once they have done a step."""
        for rank in ranks:
            self.event(records.RANK_FIRST_STEP, rank=rank, generation=generation)
        return self.started(*ranks, generation=generation)

    def ended(self, rank: int, generation: int = 1) -> records.Record:
        return self.event(records.RANK_ENDED, rank=rank, generation=generation)

    def hang_up(self) -> None:
        """Close the connection as a coordinator that ends does."""
        self._selector.close()
        for stream in (self.relay.stdin, self.relay.stdout):
            if stream is not None:
                stream.close()
        self.relay.wait(PATIENCE_S)

    def kill_relay(self) -> None:
        self.relay.kill()
        self.hang_up()


class AgentHouse:
    """The agents that a test starts, and their end."""

    def __init__(self) -> None:
        self._clients: list[AgentClient] = []
        self.watched: set[tuple[int, int]] = set()

    def reach(self, folder: Path, **options: Any) -> AgentClient:
        client = AgentClient(folder, **options)
        self._clients.append(client)
        return client

    def watch(self, *pids: int) -> None:
        """These too must be gone at the end."""
        self.watched |= {(pid, start_time(pid)) for pid in pids if is_alive(pid)}

    def close(self) -> None:
        """Stop whatever is left, then prove that nothing is alive. What is alive fails the test, and is killed."""
        folders = {Path(client.place.root) for client in self._clients}
        for client in self._clients:
            client.hang_up()
        for folder in folders:
            end(folder)
        try:
            until(lambda: not self._left(folders), "nothing of the test's is alive any more")
        finally:
            for pid in self._left(folders):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _left(self, folders: set[Path]) -> list[int]:
        watched = [pid for pid, born in self.watched if is_alive(pid) and start_time(pid) == born]
        return watched + [pid for folder in folders for pid in left_alive(folder)]


@contextlib.contextmanager
def agents() -> Iterator[AgentHouse]:
    house = AgentHouse()
    try:
        yield house
    finally:
        house.close()


def end(folder: Path) -> None:
    """Stop the ranks of a folder's agent at once, if there is one, and let it go without its grace."""
    if not is_listening(folder):
        return
    client = AgentClient(folder, start=False)
    with contextlib.suppress(AssertionError, OSError):
        client.command(1 << 40)
        client.send(client.talk.stop("now", "the test is over"))
        deadline = time.monotonic() + PATIENCE_S
        while not client.closed and time.monotonic() < deadline:
            client.send(client.talk.leave())
            client.read(0.02)
    client.hang_up()


def is_listening(folder: Path) -> bool:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(layout.agent_socket(str(folder)))
    except OSError:
        return False
    finally:
        connection.close()
    return True


def name_is_free(folder: Path) -> bool:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.bind(layout.agent_socket(str(folder)))
    except OSError:
        return False
    finally:
        connection.close()
    return True


def journal(folder: Path) -> list[records.Record]:
    try:
        return records.parse(Path(HostFolder(str(folder)).journal).read_bytes())[0]
    except FileNotFoundError:
        return []


def agent_pids(folder: Path) -> list[int]:
    """Agent and warden of every agent that a folder has had, as far as they are alive."""
    started = [e for e in journal(folder) if e["type"] == records.AGENT_STARTED]
    pids = [e["pid"] for e in started if is_alive(e["pid"]) and start_time(e["pid"]) == e["start_time"]]
    pids += [e["warden_pid"] for e in started if b"relay" in command_line(e["warden_pid"])]
    return pids


def left_alive(folder: Path) -> list[int]:
    """Every process of a folder's run: its agents and wardens, and whoever has its mark."""
    return agent_pids(folder) + marked(folder)


def marked(folder: Path) -> list[int]:
    entry = f"LAUNCHER_MARK={layout.mark(str(folder))}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and is_alive(int(process.name)):
            with contextlib.suppress(OSError):
                if entry in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
    return found


def is_alive(pid: int) -> bool:
    """True if there is such a process and it is no zombie."""
    return _stat(pid)[0:1] not in ([], [b"Z"], [b"X"])


def start_time(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> list[bytes]:
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    return data[data.rfind(b")") + 2 :].split()


def rank_order(
    folder: Path, rank: int, *does: str, generation: int = 1, argv: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """An order for the fake trainer, which does what `does` says; or for `argv`."""
    place = HostFolder(str(folder))
    return {
        "rank": rank,
        "argv": list(argv) if argv is not None else [sys.executable, "-I", "-S", str(TRAINER), *does],
        "cwd": str(folder),
        "env": {
            "LAUNCHER_RANK": str(rank),
            "LAUNCHER_GENERATION": str(generation),
            "LAUNCHER_PROGRESS_FILE": place.progress(generation, rank),
            "LAUNCHER_CHECKPOINT_DIR": place.rank_checkpoints(generation, rank),
            "LAUNCHER_OUTPUT_DIR": place.rank_output(generation, rank),
        },
        "secrets": {},
        "stop": "message",
        "chief": rank == 0,
        **more,
    }
