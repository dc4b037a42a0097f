"""Connecting by whichever address answers first, and what is said when none does."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.dial import Deadline, _Race, dial
from tests.integration.ssh_tools import black_hole


def test_an_address_that_does_not_answer_does_not_hold_up_the_next() -> None:
    with black_hole() as hole, socket.create_server(("127.0.0.1", 0)) as server:
        race = _Race([(socket.AF_INET, ("127.0.0.1", hole)), (socket.AF_INET, server.getsockname())])
        start = time.monotonic()
        sock = race.run(Deadline(20))
        race.close()
        assert sock is not None
        assert time.monotonic() - start < 5
        assert sock.getpeername() == server.getsockname()
        sock.close()


def test_a_refused_address_passes_on_to_the_next_at_once() -> None:
    with socket.socket() as unused, socket.create_server(("127.0.0.1", 0)) as server:
        unused.bind(("127.0.0.1", 0))
        race = _Race([(socket.AF_INET, unused.getsockname()), (socket.AF_INET, server.getsockname())])
        sock = race.run(Deadline(20))
        race.close()
        assert sock is not None
        sock.close()
        assert len(race.errors) == 1


def test_a_connection_has_no_delay_and_blocks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = dial("h", "localhost", server.getsockname()[1], Deadline(10), "inet")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getblocking()
        sock.close()


def test_nobody_is_late_while_a_person_is_asked() -> None:
    deadline = Deadline(1.0)
    with deadline.halted():
        time.sleep(0.05)
    assert 0.9 < deadline.left_s <= 1.0
    assert 0.05 <= deadline.halted_s < 1.0


@pytest.mark.parametrize("address", ["no-such-name.invalid", "a..b", "x" * 300])
def test_a_name_that_is_none_is_told(address: str) -> None:
    start = time.monotonic()
    with pytest.raises(NotFitError, match=r"h: the name .* found"):
        dial("h", address, 22, Deadline(3))
    assert time.monotonic() - start < 10


def test_no_descriptor_is_left_by_those_that_lost() -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with black_hole() as hole:
        before = count()
        with pytest.raises(NotFitError, match="does not answer"):
            dial("h", "127.0.0.1", hole, Deadline(0.3))
        assert count() == before
