"""Which of its addresses a host is reached at."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.check.addresses import choose
from launcher.check.found import Found
from tests.check_values import found, host
from worker.contract.machine.interfaces import Interface

LO = Interface("lo", "127.0.0.1", 8)
DOCKER = Interface("docker0", "172.17.0.1", 16)


def machine(name: str, *addresses: str, outgoing: str) -> Found:
    interfaces = [LO, DOCKER]
    for number, address in enumerate(addresses):
        ip, _, prefix = address.partition("/")
        interfaces.append(Interface(f"eth{number}", ip, int(prefix)))
    return found(name, interfaces=tuple(interfaces), outgoing=outgoing)


def chosen(*machines: Found, **keys: Any) -> dict[str, tuple[str, str]]:
    hosts = [host(one.host, **keys) for one in machines]
    return {name: (one.address, one.interface) for name, one in choose(hosts, {m.host: m for m in machines}).items()}


def test_hosts_of_one_network_meet_in_it_even_if_they_go_out_elsewhere() -> None:
    a = machine("a", "8.8.8.8/24", "10.1.0.1/16", outgoing="8.8.8.8")
    b = machine("b", "9.9.9.9/24", "10.1.0.2/16", outgoing="9.9.9.9")
    assert chosen(a, b) == {"a": ("10.1.0.1", "eth1"), "b": ("10.1.0.2", "eth1")}


def test_of_several_common_networks_the_one_that_leads_out_is_taken() -> None:
    a = machine("a", "192.168.1.1/24", "10.1.0.1/16", outgoing="10.1.0.1")
    b = machine("b", "192.168.1.2/24", "10.1.0.2/16", outgoing="10.1.0.2")
    assert chosen(a, b) == {"a": ("10.1.0.1", "eth1"), "b": ("10.1.0.2", "eth1")}


def test_a_bridge_that_every_machine_has_and_the_end_of_a_tunnel_are_no_common_network() -> None:
    a = machine("a", "10.1.0.1/24", "100.64.0.1/32", outgoing="10.1.0.1")
    b = machine("b", "10.2.0.1/24", "100.64.0.2/32", outgoing="10.2.0.1")
    assert chosen(a, b) == {"a": ("10.1.0.1", "eth0"), "b": ("10.2.0.1", "eth0")}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"network": "192.168.1.0/24"}, ("192.168.1.1", "eth0")),
        ({"network": "fd00::/64"}, ("fd00::5", "eth2")),
        ({"address": "10.1.0.1"}, ("10.1.0.1", "eth1")),
        ({"address": "gpu-a.lan"}, ("gpu-a.lan", "")),
    ],
)
def test_the_specs_word_counts(keys: dict[str, str], expected: tuple[str, str]) -> None:
    a = machine("a", "192.168.1.1/24", "10.1.0.1/16", "fd00::5/64", outgoing="10.1.0.1")
    assert chosen(a, **keys) == {"a": expected}


def test_a_name_has_the_interface_of_what_it_stands_for() -> None:
    a = found("a", resolved=("10.0.0.1",))
    assert choose([host("a", address="gpu-a.lan")], {"a": a})["a"].interface == "eth0"
