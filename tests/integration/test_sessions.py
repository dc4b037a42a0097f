"""What every session and every channel promises, whatever carries it."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.session import Channel
from tests.integration.harness import wait_for
from tests.integration.transports import (
    ALL,
    REMOTE,
    Reached,
    Transport,
    echo,
    in_threads,
    output_of,
    reached,
    read_all,
    status_of,
    write_all,
)

MB = 1 << 20


@pytest.fixture(params=ALL)
def any_session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reached]:
    with reached(request.param, tmp_path) as one:
        yield one


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reached]:
    with reached(request.param, tmp_path) as one:
        yield one


def write_until_it_fails(channel: Channel) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not channel.write(b"x" * MB):
            channel.wait_writable(0.2)


def test_fifty_megabytes_in_both_directions_at_once_arrive_as_they_were(any_session: Reached) -> None:
    channel = any_session.session.run("exec cat")
    sent, came = echo(channel, 50 * MB)
    assert sent == came
    assert status_of(channel) == 0


def test_a_command_that_floods_its_errors_neither_hangs_nor_fills_anything(any_session: Reached) -> None:
    channel = any_session.session.run("head -c 30000000 /dev/zero | tr '\\0' e >&2; echo the last word >&2; echo done")
    assert read_all(channel) == b"done\n"
    wait_for(lambda: "the last word" in channel.errors(), "the end of the errors")
    assert len(channel.errors()) <= 8000
    assert status_of(channel) == 0


@pytest.mark.parametrize("status", [0, 1, 7, 200, 255])
def test_the_exit_status_is_the_commands(any_session: Reached, status: int) -> None:
    channel = any_session.session.run(f"exit {status}")
    assert read_all(channel) == b""
    assert status_of(channel) == status


def test_a_command_that_was_killed_has_not_succeeded_and_the_session_lives(any_session: Reached) -> None:
    channel = any_session.session.run("echo first; kill -9 $$")
    assert read_all(channel) == b"first\n"
    assert status_of(channel) != 0
    assert any_session.session.alive
    assert output_of(any_session.session, "echo still here") == b"still here\n"


def test_the_end_of_the_input_reaches_the_command(any_session: Reached) -> None:
    channel = any_session.session.run("cat; echo that was all")
    write_all(channel, b"something, ")
    channel.end_input()
    channel.end_input()
    assert read_all(channel) == b"something, that was all\n"


def test_reading_does_not_wait_and_the_descriptor_tells_when_there_is_something(any_session: Reached) -> None:
    channel = any_session.session.run("read x; echo $x; read x")
    assert channel.read() is None
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    assert not poll.poll(50)
    write_all(channel, b"now\n")
    assert poll.poll(10_000)
    assert channel.read() == b"now\n"
    assert channel.exit_status() is None


def test_a_descriptor_registered_once_tells_of_the_end_too(any_session: Reached) -> None:
    channel = any_session.session.run("read x; exit 3")
    with select.epoll() as poll:
        poll.register(channel.fileno(), select.EPOLLIN)
        assert channel.read() is None
        write_all(channel, b"go\n")
        deadline = time.monotonic() + 10
        while (data := channel.read()) is None:
            assert time.monotonic() < deadline
            poll.poll(10)
        assert data == b""
    assert status_of(channel) == 3


def test_a_command_that_does_not_read_takes_only_so_much_until_it_does(any_session: Reached, tmp_path: Path) -> None:
    go = tmp_path / "go"
    channel = any_session.session.run(f"while [ ! -e {go} ]; do sleep 0.05; done; exec cat > /dev/null")
    block = b"x" * MB
    taken = 0
    deadline = time.monotonic() + 20
    while channel.wait_writable(0.3):
        taken += channel.write(block)
        assert time.monotonic() < deadline
    assert 0 < taken < 64 * MB  # pipes and windows
    assert channel.write(block) == 0
    go.touch()
    write_all(channel, block)
    channel.end_input()
    assert read_all(channel) == b""


def test_writing_to_a_command_that_has_ended_raises(any_session: Reached) -> None:
    channel = any_session.session.run("exit 0")
    assert read_all(channel) == b""
    with pytest.raises(OSError, match=r".*"):
        write_until_it_fails(channel)


def test_closing_a_channel_ends_a_command_that_reads_its_input(any_session: Reached, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    channel = any_session.session.run(f"cat >/dev/null; : > {ended}")
    assert channel.read() is None
    channel.close()
    channel.close()
    wait_for(ended.exists, "the command's end")


def test_twenty_channels_at_once(any_session: Reached) -> None:
    session = any_session.session
    channels = [session.run("read x; echo $x; read y") for _ in range(20)]
    for n, channel in enumerate(channels):
        write_all(channel, f"{n}\n".encode())
    for n, channel in enumerate(channels):
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        while (data := channel.read()) is None:
            assert poll.poll(10_000)
        assert data == f"{n}\n".encode()
    for channel in channels:
        channel.close()


def test_many_threads_run_commands_on_one_session(any_session: Reached) -> None:
    def some(n: int) -> None:
        for m in range(5):
            assert output_of(any_session.session, f"echo {n}.{m}") == f"{n}.{m}\n".encode()

    in_threads(16, some)


def test_two_hundred_commands_one_after_the_other_leave_nothing_open(any_session: Reached) -> None:
    for _ in range(5):
        output_of(any_session.session, "true")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(200):
        output_of(any_session.session, "true")
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("transport", REMOTE)
def test_a_host_that_allows_few_commands_on_a_connection_runs_many(
    transport: Transport, tmp_path: Path, most: int
) -> None:
    with reached(transport, tmp_path, lines=[f"MaxSessions {most}"]) as one:
        channels = [one.session.run("read x; echo $x") for _ in range(5)]
        for channel in channels:
            write_all(channel, b"served\n")
        for channel in channels:
            assert read_all(channel) == b"served\n"
            channel.close()
        for _ in range(10):
            assert output_of(one.session, "echo again") == b"again\n"


@pytest.mark.parametrize("transport", REMOTE)
def test_a_host_that_allows_no_commands_at_all_says_so(transport: Transport, tmp_path: Path) -> None:
    with reached(transport, tmp_path, lines=["MaxSessions 0"]) as one, pytest.raises(NotFitError, match="h1"):
        one.session.run("true")


def test_a_connection_that_was_killed_is_no_end_of_the_output(remote: Reached) -> None:
    assert remote.host is not None
    channel = remote.session.run("echo first; exec sleep 600")
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    assert poll.poll(10_000)
    assert channel.read() == b"first\n"
    remote.host.kill()
    with pytest.raises(OSError, match=r".+"):
        read_all(channel, timeout_s=30)
    wait_for(lambda: not remote.session.alive, "the session to notice")
    with pytest.raises(NotFitError, match="h1"):
        remote.session.run("true")


def test_a_connection_that_was_killed_in_the_middle_of_much_output_is_no_end_of_it(remote: Reached) -> None:
    assert remote.host is not None
    host = remote.host
    channel = remote.session.run("exec cat /dev/zero")
    came = 0

    def take(data: bytes) -> None:
        nonlocal came
        before, came = came, came + len(data)
        if before < 20 * MB <= came:
            host.kill()

    with pytest.raises(OSError, match=r".+"):
        read_all(channel, timeout_s=30, take=take)
    assert came >= 20 * MB


def test_a_killed_connection_lets_writers_go(remote: Reached) -> None:
    assert remote.host is not None
    channel = remote.session.run("exec sleep 600")
    assert channel.read() is None
    remote.host.kill()
    with pytest.raises(OSError, match=r".+"):
        write_until_it_fails(channel)


@pytest.mark.parametrize("transport", REMOTE)
@pytest.mark.parametrize("shell", ["bash", "dash", "fish"])
def test_any_login_shell_runs_the_same_constant_command(transport: Transport, shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} is installed")
    with reached(transport, tmp_path, shell=shell) as one:
        channel = one.session.run("exec python3 -I -S -c 'import sys; sys.stdout.write(sys.stdin.read())'")
        write_all(channel, b"$HOME `id` \\ \"'\n")
        channel.end_input()
        assert read_all(channel) == b"$HOME `id` \\ \"'\n"
        assert status_of(channel) == 0


@pytest.mark.parametrize("transport", REMOTE)
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_what_a_login_shell_prints_comes_before_the_command(transport: Transport, shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} is installed")
    with reached(transport, tmp_path, shell=shell, greeting="Welcome!\nRead the rules", banner="no entry\n") as one:
        assert output_of(one.session, "echo mine").endswith(b"Welcome!\nRead the rules\nmine\n")


def test_a_closed_session_takes_no_commands_and_ends_those_it_has(any_session: Reached) -> None:
    session = any_session.session
    channel = session.run("exec cat")
    session.close()
    session.close()
    with contextlib.suppress(OSError):
        assert not channel.read()
    if any_session.host is not None:
        assert not session.alive
        with pytest.raises(NotFitError):
            session.run("true")
