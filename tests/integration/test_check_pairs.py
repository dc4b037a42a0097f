"""All pairs of hosts, tried for real."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from launcher.check import pairs
from launcher.check.errand import Visits
from launcher.check.pairs import End, Tried
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from launcher.spec.model import HostSpec
from tests.check_values import found
from tests.integration.sessions import Instead
from tests.plan_values import spec
from worker.contract.machine import ports
from worker.errands import probe

THREE = spec(*(HostSpec(name, local=True) for name in "abc"))


@pytest.fixture
def sessions() -> Iterator[dict[str, Session]]:
    with ExitStack() as stack:
        made: dict[str, Session] = {name: LocalSession(name) for name in "abc"}
        for session in made.values():
            stack.callback(session.close)
        yield made


def ends(count: int = 3) -> list[End]:
    free = ports.free(31000, 31499, count)
    return [End("abc"[number % 3], "127.0.0.1", port) for number, port in enumerate(free)]


def try_all(sessions: dict[str, Session], listening: list[End]) -> Tried:
    with Visits(THREE, sessions) as visits:
        return pairs.try_all(visits, listening, {name: found(name) for name in "abc"}, timeout_s=1.0)


def test_every_pair_is_tried_and_answers(sessions: dict[str, Session]) -> None:
    where = ends(6)
    tried = try_all(sessions, where)
    assert (tried.unopened, tried.failed) == ((), {})
    planned = [pair for pair in tried.pairs if not pair.extra]
    # With two workers each, a host must reach its own address, too.
    assert {(p.source, p.target, p.port) for p in planned} == {(s, e.host, e.port) for s in "abc" for e in where}
    assert {pair.why for pair in tried.pairs} == {""}
    assert [(pair.source, pair.target) for pair in tried.pairs if pair.extra] == [("a", "b"), ("b", "c"), ("c", "a")]


def test_ports_of_the_kernels_choice_are_tried_from_everywhere_if_asked_to(sessions: dict[str, Session]) -> None:
    with Visits(THREE, sessions) as visits:
        tried = pairs.try_all(visits, ends(), {name: found(name) for name in "abc"}, any_port=True)
    assert len([pair for pair in tried.pairs if pair.extra]) == 6


def test_hosts_that_are_one_machine_are_tried_once_and_each_is_told(sessions: dict[str, Session]) -> None:
    where = ends()
    with Visits(THREE, sessions) as visits:
        tried = pairs.try_all(visits, where, {name: found(name, machine="one") for name in "abc"})
    assert {(p.source, p.target) for p in tried.pairs if not p.extra and not p.why} == {
        (source, target) for source in "abc" for target in "abc" if source != target
    }


def test_the_ports_are_free_again_at_once(sessions: dict[str, Session]) -> None:
    where = ends()
    try_all(sessions, where)
    for end in where:
        assert ports.free(end.port, end.port, 1) == (end.port,)


def test_a_port_that_is_taken_is_no_pair_that_is_blocked(sessions: dict[str, Session]) -> None:
    where = ends()
    with socket.create_server(("127.0.0.1", where[1].port)):
        tried = try_all(sessions, where)
    ((name, port, why),) = tried.unopened
    assert (name, port, "in use" in why) == ("b", where[1].port, True)
    assert {p.target for p in tried.pairs if not p.extra} == {"a", "c"}


def test_an_address_at_which_nobody_listens_is_a_blocked_pair_and_others_are_not(sessions: dict[str, Session]) -> None:
    where = [*ends(2), End("c", "127.0.0.1", ports.free(31500, 31599, 1)[0])]
    sessions["c"].close()
    silent: dict[str, Session] = {**sessions, "c": Instead("c", "exec sleep 0.1")}
    tried = try_all(silent, where)
    assert list(tried.failed or {}) == ["c"]
    assert {(p.source, p.target) for p in tried.pairs if not p.why and not p.extra} == {("a", "b"), ("b", "a")}


@contextmanager
def listener(backlog: int = 8, answer: bytes | None = None) -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(backlog)
        if answer is not None:

            def serve() -> None:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(64)
                    connection.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])


def attempt(port: int, address: str = "127.0.0.1") -> str:
    return probe.attempt({"x": (address, port, b"t" * 32)}, 0.5)["x"][0]


def test_how_an_attempt_fails_is_told_apart() -> None:
    with listener() as silent, listener(answer=b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3) as web:
        assert attempt(silent) == "accepted, but no answer came"
        assert attempt(web) == "something else answers there"
    assert attempt(silent) == "refused"
    assert "cannot be resolved" in attempt(80, "no-such-host.invalid")


def test_a_listener_whose_queue_is_full_times_out_as_a_dropped_packet_does() -> None:
    with listener(backlog=0) as port, ExitStack() as stack:
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        assert attempt(port) == "timed out"


def test_many_targets_are_tried_at_once() -> None:
    with listener() as port:
        results = probe.attempt({str(n): ("127.0.0.1", port, b"t") for n in range(20)}, 0.5)
    assert len(results) == 20
