"""Sessions over a network: other addresses, ways around corners, and cables that are pulled."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.reach import Reacher
from launcher.spec.model import HostSpec, Ssh
from tests.integration.transports import REMOTE, Transport, output_of, read_all, remote_session, status_of
from tests.lab.netns import netns_hosts, why_no_netns

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())


@pytest.mark.parametrize("transport", REMOTE)
def test_a_host_is_reached_by_its_ipv6_address(transport: Transport, tmp_path: Path) -> None:
    with netns_hosts(tmp_path / "lab", 1) as hosts:
        host = hosts[0]
        if not host.address6:
            pytest.skip("this machine has no IPv6")
        address = Ssh(host=host.address6, user=host.user, key=str(host.key))
        with Reacher(connect_s=10, config=host.config) as reacher:
            session = reacher.open(HostSpec(name="six", ssh=address, transport=transport, host_keys=host.fingerprint))
            assert host.address6 in output_of(session, "echo $SSH_CONNECTION").decode()
            session.close()


@pytest.mark.parametrize("transport", REMOTE)
def test_a_host_behind_a_gate_is_reached_where_there_is_no_other_way(transport: Transport, tmp_path: Path) -> None:
    with netns_hosts(tmp_path / "lab", 1, jump=True) as hosts, remote_session(transport, hosts[0]) as session:
        assert output_of(session, "hostname") == b"h1\n"


@pytest.mark.parametrize("transport", REMOTE)
def test_a_cable_that_is_pulled_for_some_seconds_loses_nothing(transport: Transport, tmp_path: Path) -> None:
    with netns_hosts(tmp_path / "lab", 1) as hosts, remote_session(transport, hosts[0]) as session:
        channel = session.run("for i in $(seq 400); do echo $i; sleep 0.01; done")
        timer = threading.Timer(1.0, hosts.host(0).cut)
        timer.start()
        healer = threading.Timer(5.0, hosts.host(0).heal)
        healer.start()
        began = time.monotonic()
        try:
            assert read_all(channel) == "".join(f"{n}\n" for n in range(1, 401)).encode()
        finally:
            timer.join()
            healer.join()
        assert time.monotonic() - began > 4.5
        assert status_of(channel) == 0
        assert session.alive


PASSWORD = "correct horse"
HASHED = "$6$labsalt$G7iWEvzejTe/xBSwtH9gD9FfIsFWk4Xfy5GItCgWbAHbleGj502.Wo68eTVbRDczBzl0th4.4gbBOIeLoOcse1"


def test_a_second_factor_is_asked_for_by_the_systems_ssh(tmp_path: Path) -> None:
    lines = ["PermitRootLogin yes", "PasswordAuthentication yes", "AuthenticationMethods publickey,password"]
    with netns_hosts(tmp_path / "lab", 1, lines=lines) as hosts:
        (hosts[0].folder / "shadow").write_text(f"root:{HASHED}:20000:0:99999:7:::\n")
        spec = HostSpec(name="h1", ssh=Ssh(alias="h1"), transport="openssh")
        asked: list[str] = []

        def ask(prompt: str) -> str | None:
            asked.append(prompt)
            return PASSWORD if len(asked) > 1 else "a slip"

        with Reacher(connect_s=10, config=hosts.config, ask=ask) as reacher:
            for _ in range(2):  # a reconnect has nobody to ask
                session = reacher.open(spec)
                assert output_of(session, "hostname") == b"h1\n"
                session.close()
        assert len(asked) == 2
        assert "password" in asked[0]
        with Reacher(connect_s=10, config=hosts.config) as reacher, pytest.raises(NotFitError, match="password"):
            reacher.open(spec)
