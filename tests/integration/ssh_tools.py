"""What the tests of SSH share: specs of the lab's hosts, reading to the end, and what must not be left behind."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from launcher.hosts.session import Channel
from launcher.spec.model import HostSpec, Ssh

DEADLINE_S = 30.0


def spec(alias: str, *, name: str = "", host_keys: str = "known") -> HostSpec:
    return HostSpec(name or alias, ssh=Ssh(alias=alias), host_keys=host_keys)


def more(folder: Path, config: Path, text: str) -> Path:
    """A config that says `text` before what `config` says."""
    path = folder / "more_config"
    path.write_text(f"{text}\nHost *\nInclude {config}\n")
    return path


def read_all(channel: Channel, most: int = 1 << 18) -> bytes:
    """Everything up to the end of the output."""
    got = []
    for data in pieces(channel, most):
        got.append(data)
    return b"".join(got)


def pieces(channel: Channel, most: int = 1 << 18) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        data = channel.read(most)
        if data:
            yield data
        elif data is not None:
            return
        elif not poll.poll(DEADLINE_S * 1000):
            raise AssertionError(f"nothing came for {DEADLINE_S:g} s")


def until(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


def write_all(channel: Channel, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        sent = channel.write(rest)
        rest = rest[sent:]
        if not sent:
            assert channel.wait_writable(DEADLINE_S)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Threads and descriptors are those of before in the end."""
    threads, descriptors = set(threading.enumerate()), _open_descriptors()
    yield
    until(lambda: set(threading.enumerate()) <= threads, f"all threads have ended: {threading.enumerate()}")
    until(lambda: _open_descriptors() <= descriptors, "all descriptors are closed")


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def mute_server() -> Iterator[int]:
    """The port of something on 127.0.0.1 that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.1 that does not even answer to the first packet: its queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(server.getsockname())
        yield server.getsockname()[1]
