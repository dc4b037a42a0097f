"""Which of its addresses a host is reached at by the other workers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from launcher.check.found import Found
from launcher.spec.model import HostSpec
from worker.contract.machine.interfaces import Interface

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Chosen:
    """`wrong` says why the address is not what the spec asks for; `fix` what to do. The interface may be unknown."""

    address: str
    interface: str = ""
    wrong: str = ""
    fix: str = ""


def choose(hosts: Sequence[HostSpec], found: Mapping[str, Found]) -> dict[str, Chosen]:
    """An address for each host that was found.

    What `address:` says; else the one in `network:`; else the one in a network that all these hosts are in, rather the
    one from which they send to the world; else that.
    """
    known = [host for host in hosts if host.name in found]
    free = [host for host in known if not host.address and not host.network]
    common = _common([found[host.name] for host in free])
    return {host.name: _of(host, found[host.name], common) for host in known}


def named(found: Found, address: str) -> str:
    """The interface that has an address; empty if none has."""
    return next((one.name for one in found.interfaces if one.address == address), "")


def _of(host: HostSpec, found: Found, common: Network | None) -> Chosen:
    if host.address:
        return Chosen(host.address, named(found, host.address) or _resolved(found))
    network = ip_network(host.network, strict=False) if host.network else common
    inside = next((one for one in found.interfaces if network and ip_address(one.address) in network), None)
    if inside:
        return Chosen(inside.address, inside.name)
    default = Chosen(found.outgoing, named(found, found.outgoing))
    if not host.network:
        return default
    told = ", ".join(f"{one.address} on {one.name}" for one in found.interfaces) or "none"
    return Chosen(
        default.address,
        default.interface,
        f"no address of host {host.name} is in {host.network}; found: {told}",
        "set `network:` to one that all hosts are in, or `address:` for each host",
    )


def _resolved(found: Found) -> str:
    return next((name for one in found.resolved if (name := named(found, one))), "")


def _common(found: Sequence[Found]) -> Network | None:
    """A network in which every machine has an address of its own."""
    machines = {one.machine: one for one in found}
    if len(machines) < 2:
        return None
    first, *others = machines.values()
    candidates = [one for one in first.interfaces if _joins(one)]
    shared = [one for one in candidates if _apart(_network(one), machines.values())]
    if not shared:
        return None

    def worth(one: Interface) -> tuple[bool, bool, bool]:
        network = _network(one)
        sends = all(other.outgoing and ip_address(other.outgoing) in network for other in (first, *others))
        return sends, network.is_private, network.version == 4

    return _network(max(shared, key=worth))


def _network(one: Interface) -> Network:
    return ip_interface(f"{one.address}/{one.prefix}").network


def _joins(one: Interface) -> bool:
    """Whether other machines may be in the interface's network: not loopback, not the end of a tunnel."""
    address = ip_address(one.address)
    return not address.is_loopback and not address.is_link_local and one.prefix < address.max_prefixlen


def _apart(network: Network, found: Iterable[Found]) -> bool:
    """Each has an address in it, and no two the same: containers' bridges are called alike everywhere."""
    addresses = [next((i.address for i in one.interfaces if ip_address(i.address) in network), None) for one in found]
    return None not in addresses and len(set(addresses)) == len(addresses)
