"""Every way to reach a host, for tests that must hold for each of them."""

from __future__ import annotations

import contextlib
import hashlib
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from launcher.hosts.local_session import LocalSession
from launcher.hosts.reach import Reacher
from launcher.hosts.session import Channel, Session
from launcher.spec.model import HostSpec, Ssh
from tests.lab.sshd import SshHost, sshd_hosts, why_no_sshd

Transport = Literal["paramiko", "openssh"]
REMOTE: tuple[Transport, ...] = ("paramiko", "openssh")
ALL = ("local", *REMOTE)


@contextlib.contextmanager
def remote_session(transport: Transport, host: SshHost, *, connect_s: float = 15.0) -> Iterator[Session]:
    """A session with a host of the lab, by its alias."""
    spec = HostSpec(name=host.name, ssh=Ssh(alias=host.name), transport=transport)
    with Reacher(connect_s=connect_s, config=host.config) as reacher:
        session = reacher.open(spec)
        try:
            yield session
        finally:
            session.close()


@dataclass
class Reached:
    """A session, and the host at its other end if that is another one."""

    session: Session
    host: SshHost | None


@contextlib.contextmanager
def reached(transport: Transport | Literal["local"], folder: Path, **options: Any) -> Iterator[Reached]:
    """A session of the given kind with a fresh host; `options` are those of `sshd_hosts`."""
    if transport == "local":
        session: Session = LocalSession("here")
        try:
            yield Reached(session, None)
        finally:
            session.close()
        return
    if why_no_sshd():
        pytest.skip(why_no_sshd())
    with sshd_hosts(folder / "lab", 1, **options) as hosts, remote_session(transport, hosts[0]) as session:
        yield Reached(session, hosts[0])


def read_all(channel: Channel, timeout_s: float = 60.0, take: Callable[[bytes], None] | None = None) -> bytes:
    """Everything that the command prints, or nothing if `take` gets it. Fails after so long without a byte."""
    found = bytearray()
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        data = channel.read()
        if data is None:
            assert poll.poll(timeout_s * 1000), f"nothing came for {timeout_s} s; errors: {channel.errors()}"
        elif not data:
            return bytes(found)
        elif take:
            take(data)
        else:
            found += data


def write_all(channel: Channel, data: bytes, timeout_s: float = 60.0) -> None:
    rest = memoryview(data)
    while rest:
        sent = channel.write(rest)
        rest = rest[sent:]
        if not sent:
            assert channel.wait_writable(timeout_s), f"nothing was taken for {timeout_s} s"


def status_of(channel: Channel, timeout_s: float = 20.0) -> int:
    """The exit status, as soon as it is known."""
    deadline = time.monotonic() + timeout_s
    while (status := channel.exit_status()) is None:
        assert time.monotonic() < deadline, "the exit status never came"
        time.sleep(0.005)
    return status


def output_of(session: Session, command: str) -> bytes:
    """What a command prints on a session, and nothing on errors, with success."""
    channel = session.run(command)
    try:
        channel.end_input()
        printed = read_all(channel)
        assert status_of(channel) == 0, channel.errors()
        return printed
    finally:
        channel.close()


def echo(channel: Channel, size: int) -> tuple[str, str]:
    """Send so much through a command and back at once: (hash of what was sent, hash of what came)."""
    block = bytes(range(256)) * 256
    sent, came = hashlib.sha256(), hashlib.sha256()
    left = size
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    waiting = memoryview(b"")
    while True:
        if not waiting and left:
            piece = block[: min(len(block), left)]
            sent.update(piece)
            left -= len(piece)
            waiting = memoryview(piece)
        if waiting:
            waiting = waiting[channel.write(waiting) :]
            if not waiting and not left:
                channel.end_input()
        data = channel.read()
        if data:
            came.update(data)
        elif data is not None:
            return sent.hexdigest(), came.hexdigest()
        else:
            poll.poll(5)


def in_threads(count: int, job: Callable[[int], None]) -> None:
    """Run `job(n)` in so many threads at once; raises the first error of any."""
    errors: list[BaseException] = []

    def one(n: int) -> None:
        try:
            job(n)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]
