"""Many hosts at once: in parallel, over jump hosts, and none of them holds up or hides another."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launcher.errors import NotFitError
from launcher.hosts.reach import Reacher, reach
from launcher.hosts.session import Session
from launcher.spec.model import HostSpec, Ssh
from tests.integration.ssh_tools import black_hole, more, mute_server, nothing_left, read_all, spec, until
from tests.lab.sshd import SshHosts, sshd_hosts, why_no_sshd

pytestmark = pytest.mark.skipif(why_no_sshd() != "", reason=why_no_sshd())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    with sshd_hosts(tmp_path_factory.mktemp("lab"), 3, jump=2) as up:
        yield up


def fine(found: dict[str, Session | NotFitError], *names: str) -> None:
    """These hosts were reached and run commands; closes their sessions."""
    for name in names:
        session = found[name]
        assert isinstance(session, Session), session
        assert read_all(session.run("echo hello")) == b"hello\n"
        session.close()


def why(found: dict[str, Session | NotFitError], name: str) -> str:
    error = found[name]
    assert isinstance(error, NotFitError)
    return error.message


def accepted(host: object) -> int:
    return host.log.read_text().count("Accepted publickey")  # type: ignore[attr-defined, no-any-return]


def test_a_bad_host_costs_the_deadline_once_and_hides_no_other(hosts: SshHosts, tmp_path: Path) -> None:
    with mute_server() as mute, black_hole() as hole, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        text = f"""
            Host mute
                HostName 127.0.0.1
                Port {mute}
            Host hole
                HostName 127.0.0.1
                Port {hole}
            Host short
                HostName 127.0.0.1
                Port {hole}
                ConnectTimeout 1
            Host closed
                HostName 127.0.0.1
                Port {unused.getsockname()[1]}
            Host nameless
                HostName no-such-name.invalid
        """
        names = ["mute", "hole", "short", "closed", "nameless", "h1", "gate1"]
        here = HostSpec("here", local=True)
        with Reacher(connect_s=3, config=more(tmp_path, hosts.config, text)) as reaching:
            start = time.monotonic()
            found = reach([*(spec(name) for name in names), here], reaching)
            took = time.monotonic() - start
            assert list(found) == [*names, "here"]
            fine(found, "h1", "gate1", "here")
    assert 3 <= took < 5
    assert "takes connections and says nothing for 3 s" in why(found, "mute")
    assert "does not answer: nothing within 3 s" in why(found, "hole")
    assert "does not answer: nothing within 1 s" in why(found, "short")
    assert "refuses connections" in why(found, "closed")
    assert "nameless: the name no-such-name.invalid" in why(found, "nameless")


def test_a_server_that_is_none_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as client:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\x1b[31mcontent\r\n\r\n" * 100)
                client.recv(100)

        threading.Thread(target=serve, daemon=True).start()
        host = HostSpec("h", ssh=Ssh(host="127.0.0.1", port=server.getsockname()[1]))
        with Reacher(connect_s=5, config=tmp_path / "none") as reaching, pytest.raises(NotFitError) as caught:
            reaching.open(host)
    assert "is no SSH server" in caught.value.message
    assert "\x1b" not in caught.value.message


def test_hosts_behind_jump_hosts_share_one_connection_to_each(hosts: SshHosts) -> None:
    before = [accepted(gate) for gate in hosts.gates]
    with Reacher(connect_s=10, config=hosts.config) as warm:
        warm.open(spec("h1")).close()
    with nothing_left(), Reacher(connect_s=10, config=hosts.config) as reaching:
        found = reach([spec(f"h{n % 3 + 1}", name=f"n{n}") for n in range(12)], reaching)
        fine(found, *(f"n{n}" for n in range(12)))
        fine(reach([spec("h1")], reaching, bulk=True), "h1")
    assert [accepted(gate) for gate in hosts.gates] == [count + 2 for count in before]


def test_a_jump_host_that_came_back_is_used_again(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path, 1, jump=1) as hosts, Reacher(connect_s=5, config=hosts.config) as reaching:
        session = reaching.open(spec("h1"))
        hosts.gates[0].kill()
        until(lambda: not session.alive, "the break is noticed")
        found = reach([spec("h1", name=f"n{n}") for n in range(4)], reaching)
        for n in range(4):
            assert why(found, f"n{n}").startswith(f"n{n}: jump host gate1: 127.0.0.2 port ")
        hosts.gates[0].start()
        fine(reach([spec("h1")], reaching), "h1")
        session.close()


def test_a_host_that_its_jump_host_cannot_reach_is_told_so(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path, 2, jump=1) as hosts, Reacher(connect_s=5, config=hosts.config) as reaching:
        hosts[0].kill()
        found = reach([spec("h1"), spec("h2")], reaching)
        fine(found, "h2")
    assert f"h1: gate1 cannot reach {hosts[0].address} port {hosts[0].port}" in why(found, "h1")


def test_a_jump_host_that_forbids_forwarding_is_told_so(tmp_path: Path) -> None:
    with (
        sshd_hosts(tmp_path, 1, jump=1, lines=["AllowTcpForwarding no"]) as hosts,
        Reacher(connect_s=5, config=hosts.config) as reaching,
        pytest.raises(NotFitError) as caught,
    ):
        reaching.open(spec("h1"))
    assert "AllowTcpForwarding" in caught.value.hint


def test_an_sshd_that_turns_connections_away_is_asked_again(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path, 1, lines=["MaxStartups 2:70:4"]) as hosts:
        names = [f"n{n}" for n in range(30)]
        with Reacher(connect_s=30, config=hosts.config) as reaching:
            fine(reach([spec("h1", name=name) for name in names], reaching), *names)
        assert "MaxStartups" in hosts[0].log.read_text()


def test_an_sshd_that_only_ever_hangs_up_is_told_at_the_deadline(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client = server.accept()[0]
                except OSError:
                    return
                client.sendall(b"Exceeded MaxStartups\r\n")
                client.close()

        threading.Thread(target=serve, daemon=True).start()
        host = HostSpec("h", ssh=Ssh(host="127.0.0.1", port=server.getsockname()[1]))
        start = time.monotonic()
        with Reacher(connect_s=2, config=tmp_path / "none") as reaching, pytest.raises(NotFitError) as caught:
            reaching.open(host)
        assert time.monotonic() - start < 4
        server.shutdown(socket.SHUT_RDWR)
    assert "“Exceeded MaxStartups”" in caught.value.message
    assert "MaxStartups" in caught.value.hint


def test_ipv6(tmp_path: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    with sshd_hosts(tmp_path, 1, lines=[f"ListenAddress [::1]:{port}"]) as hosts:
        known = tmp_path / "known"
        config = more(tmp_path, hosts.config, f"UserKnownHostsFile {known}\nHost six\nHostName ::1\nPort {port}")
        with Reacher(connect_s=10, config=config) as reaching:
            fine(reach([spec("six", host_keys="accept-new")], reaching), "six")
            explicit = HostSpec("n", ssh=Ssh(host="::1", port=port))
            fine(reach([explicit], reaching), "n")
        assert known.read_text() == f"[::1]:{port} {hosts[0].host_key}\n"


def test_a_jump_host_whose_connection_is_dead_though_it_looks_whole_is_connected_anew(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path, 1, jump=1) as hosts, Reacher(connect_s=9, config=hosts.config) as reaching:
        session = reaching.open(spec("h1"))
        time.sleep(1.1)  # after so long a connection is asked
        frozen = _connections(hosts.gates[0].pid)
        for process in frozen:
            process.suspend()
        try:
            assert session.alive
            fine(reach([spec("h1", name=f"n{n}") for n in range(3)], reaching), "n0", "n1", "n2")
        finally:
            for process in frozen:
                process.resume()
        assert read_all(session.run("echo hello")) == b"hello\n"
        session.close()
    assert accepted(hosts.gates[0]) == 2


def _connections(keeper: int) -> list[psutil.Process]:
    """The processes that serve connections, without the one that listens."""
    below = psutil.Process(keeper).children(recursive=True)
    return [
        one
        for one in below
        if one.cmdline() and one.cmdline()[0].startswith("sshd: ") and "[listener]" not in one.cmdline()[0]
    ]
