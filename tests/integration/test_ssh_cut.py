"""A link that drops every packet: nobody is held up meanwhile, and what comes afterwards is whole."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.reach import Reacher
from launcher.hosts.session import Channel, Session
from tests.integration.ssh_tools import nothing_left, read_all, spec, until
from tests.lab.netns import NetHosts, netns_hosts, why_no_netns

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

MB = 1 << 20
AT_MOST_S = 2.0  # for a call that does not wait; a busy machine takes its time


@pytest.fixture(params=["direct", "over a jump host"])
def one(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[NetHosts, Callable[[], None]]]:
    """A host, and what cuts the way to it."""
    with netns_hosts(tmp_path / "lab", 1, jump=request.param != "direct") as hosts:
        yield hosts, (hosts.gate if hosts.gates else hosts.host(0)).cut


def timed(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def fill(channel: Channel) -> float:
    """Write until nothing more is taken; how long the slowest call took."""
    slowest = 0.0
    piece = os.urandom(MB)
    while channel.wait_writable(0.5):
        slowest = max(slowest, timed(lambda: channel.write(piece)))
    return slowest


def test_a_cut_holds_nobody_up(one: tuple[NetHosts, Callable[[], None]]) -> None:
    hosts, cut = one
    with Reacher(connect_s=5, config=hosts.config) as warm:
        warm.open(spec("h1")).close()
    with nothing_left(), Reacher(connect_s=3, config=hosts.config) as reaching:
        session = reaching.open(spec("h1"))
        taking, silent = session.run("exec cat >/dev/null"), session.run("exec cat")
        taking.wait_writable(5)
        cut()
        assert fill(taking) < AT_MOST_S
        assert timed(lambda: taking.write(b"x")) < AT_MOST_S
        assert timed(silent.read) < AT_MOST_S
        assert silent.read() is None
        assert session.alive  # as far as anybody can know
        start = time.monotonic()
        with pytest.raises(NotFitError, match="h1 has not started a command for 3 s"):
            session.run("true")
        assert 2.5 < time.monotonic() - start < 3 + 2 * AT_MOST_S
        assert timed(silent.close) < AT_MOST_S
        assert timed(session.close) < 2 * AT_MOST_S


def test_what_was_under_way_arrives_whole_after_the_cut(one: tuple[NetHosts, Callable[[], None]]) -> None:
    hosts, cut = one
    with Reacher(connect_s=5, config=hosts.config) as reaching:
        session = reaching.open(spec("h1"))
        channel = session.run("head -c 30000000 /dev/urandom | tee copy; exec cat >/dev/null")
        first = _some(channel, 10 * MB)
        cut()
        time.sleep(1.5)
        rest = bytearray()
        while data := channel.read():  # what was on its way
            rest += data
        assert channel.read() is None
        (hosts.gate if hosts.gates else hosts.host(0)).heal()
        until(lambda: _more(channel, rest, 30_000_000 - len(first)), "the rest has come")
        channel.end_input()
        assert read_all(channel) == b""
        copy = (hosts.host(0).home / "copy").read_bytes()
        assert hashlib.sha256(first + rest).digest() == hashlib.sha256(copy).digest()
        _run_again(session)
        session.close()


def _some(channel: Channel, size: int) -> bytes:
    got = bytearray()
    until(lambda: _more(channel, got, size), "some of it has come")
    return bytes(got)


def _more(channel: Channel, got: bytearray, size: int) -> bool:
    got += channel.read(min(MB, size - len(got))) or b""
    return len(got) >= size


def _run_again(session: Session) -> None:
    assert read_all(session.run("echo hello")) == b"hello\n"
