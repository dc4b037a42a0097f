"""Commands over paramiko: their streams are whole, their ends are told apart, and nothing waits for ever."""

from __future__ import annotations

import errno
import hashlib
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.reach import Reacher
from launcher.hosts.session import Session
from tests.integration.ssh_tools import nothing_left, pieces, read_all, spec, until, write_all
from tests.lab.sshd import SshHosts, sshd_hosts, why_no_sshd

pytestmark = pytest.mark.skipif(why_no_sshd() != "", reason=why_no_sshd())

MB = 1 << 20


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    folder = tmp_path_factory.mktemp("lab")
    with sshd_hosts(folder, 1, jump=1, lines=["RekeyLimit 4M", "MaxSessions 6"]) as up:
        yield up


@pytest.fixture(params=["direct", "over a jump host"])
def session(hosts: SshHosts, request: pytest.FixtureRequest) -> Iterator[Session]:
    with Reacher(connect_s=10, config=hosts.config) as reaching:
        opened = reaching.open(spec("gate1" if request.param == "direct" else "h1"))
        yield opened
        opened.close()


def test_what_goes_in_comes_out(session: Session) -> None:
    data = os.urandom(3 * MB)
    channel = session.run("exec cat")

    def feed() -> None:
        write_all(channel, data)
        channel.end_input()

    writer = threading.Thread(target=feed)
    writer.start()
    got = read_all(channel)
    writer.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    until(lambda: channel.exit_status() == 0, "the exit status is known")


def test_small_reads_get_every_byte_in_order(session: Session) -> None:
    channel = session.run("exec seq 1 50000")
    assert read_all(channel, most=777) == b"".join(b"%d\n" % number for number in range(1, 50001))


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("true", 0), ("kill -9 $$", -9), ("kill -15 $$", -15)])
def test_how_a_command_ended_is_known(session: Session, command: str, status: int) -> None:
    channel = session.run(command)
    assert read_all(channel) == b""
    until(lambda: channel.exit_status() == status, f"{status} is known, not {channel.exit_status()}")


def test_the_descriptor_tells_when_there_is_something_to_read(session: Session) -> None:
    channel = session.run("read line; echo $line; read line")
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    assert channel.read() is None
    assert poll.poll(50) == []
    write_all(channel, b"hello\n")
    assert poll.poll(10_000)
    assert channel.read() == b"hello\n"
    assert channel.read() is None
    assert poll.poll(50) == []
    channel.end_input()
    assert poll.poll(10_000)
    assert channel.read() == b""
    assert channel.read() == b""


def test_a_command_that_says_much_on_its_errors_does_not_hang(session: Session) -> None:
    channel = session.run("head -c 6000000 /dev/zero | tr '\\0' e >&2; echo the last error >&2; echo done")
    assert read_all(channel) == b"done\n"
    until(lambda: channel.errors().endswith("the last error\n"), "the last error is there")
    assert len(channel.errors()) <= 4000


def test_a_command_that_reads_nothing_does_not_hold_up_who_writes(session: Session) -> None:
    channel = session.run("exec sleep 60")
    piece = bytes(MB)
    deadline = time.monotonic() + 20
    while channel.wait_writable(0.3):
        assert time.monotonic() < deadline
        channel.write(piece)
    start = time.monotonic()
    assert channel.write(piece) == 0
    assert not channel.wait_writable(0.1)
    assert time.monotonic() - start < 2
    channel.close()


def test_input_that_was_ended_takes_no_more(session: Session) -> None:
    channel = session.run("exec cat")
    channel.end_input()
    channel.end_input()
    with pytest.raises(OSError, match="input was ended"):
        channel.write(b"x")
    assert read_all(channel) == b""


def test_a_key_exchange_in_the_middle_of_a_large_stream_loses_nothing(session: Session) -> None:
    size = 48 * MB
    channel = session.run(f"head -c {size} /dev/zero")
    failures: list[BaseException] = []
    over = threading.Event()

    def meddle() -> None:
        try:
            while not over.is_set():
                assert read_all(session.run("echo hello")) == b"hello\n"
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        got = sum(len(data) for data in pieces(channel))
    finally:
        over.set()
        thread.join()
    assert got == size
    assert failures == []


def test_a_host_that_takes_few_commands_over_one_connection_is_logged_in_on_again(session: Session) -> None:
    channels = [session.run("exec cat") for _ in range(15)]
    for number, channel in enumerate(channels):
        write_all(channel, b"%d" % number)
        channel.end_input()
    assert [read_all(channel) for channel in channels] == [b"%d" % number for number in range(15)]


def test_a_host_that_runs_no_commands_is_told(tmp_path: Path) -> None:
    with (
        sshd_hosts(tmp_path, 1, lines=["MaxSessions 0"]) as hosts,
        nothing_left(),
        Reacher(connect_s=10, config=hosts.config) as reaching,
    ):
        session = reaching.open(spec("h1"))
        with pytest.raises(NotFitError, match="h1 runs no commands for us") as caught:
            session.run("true")
        session.close()
    assert "MaxSessions" in caught.value.hint


def test_a_closed_channel_says_so(session: Session) -> None:
    channel = session.run("echo started; exec cat")
    assert next(pieces(channel)) == b"started\n"
    channel.close()
    channel.close()
    for call in (channel.read, lambda: channel.write(b"x")):
        with pytest.raises(OSError, match="closed") as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_a_closed_session_leaves_no_thread_and_no_descriptor(hosts: SshHosts) -> None:
    with Reacher(connect_s=10, config=hosts.config) as warm:
        warm.open(spec("h1")).close()
    with nothing_left(), Reacher(connect_s=10, config=hosts.config) as reaching:
        session = reaching.open(spec("h1"), bulk=True)
        channels = [session.run("exec cat") for _ in range(3)]
        session.close()
        session.close()
        assert not session.alive
        for channel in channels:
            with pytest.raises(OSError, match="closed"):
                channel.read()


@pytest.mark.parametrize("broken", ["the host", "the jump host"])
def test_a_connection_that_breaks_is_never_a_clean_end(tmp_path: Path, broken: str) -> None:
    with sshd_hosts(tmp_path, 1, jump=1) as hosts, Reacher(connect_s=10, config=hosts.config) as reaching:
        session = reaching.open(spec("h1"))
        channel, silent = session.run("exec cat /dev/zero"), session.run("exec cat")
        assert next(pieces(channel))
        (hosts[0] if broken == "the host" else hosts.gates[0]).kill()
        with pytest.raises(OSError, match="broke"):
            for _ in pieces(channel):
                pass
        with pytest.raises(OSError, match="broke"):
            read_all(silent)
        with pytest.raises(OSError, match="broke"):
            silent.write(b"x")
        assert silent.wait_writable(0.1)
        assert silent.exit_status() is None
        assert not session.alive
        with pytest.raises(NotFitError, match="the connection to h1 broke"):
            session.run("true")
        session.close()
