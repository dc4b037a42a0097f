"""Where the other workers reach this machine."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from launcher.errors import NotFitError
from launcher.spec.model import HostSpec
from worker.contract.machine.interfaces import interfaces, outgoing


def address_of(host: HostSpec, *, alone: bool) -> tuple[str, str]:
    """(address, interface) of this machine for a local host; the interface is empty where it is not known.

    `alone` says that every host of the spec is this machine. No packet is sent. Raises NotFitError if `network` is
    none of this machine's.
    """
    if host.address:
        return host.address, next((one.name for one in interfaces() if one.address == host.address), "")
    if host.network:
        return _in_network(host)
    return ("127.0.0.1" if alone else outgoing()), ""


def _in_network(host: HostSpec) -> tuple[str, str]:
    network = ip_network(str(host.network), strict=False)
    found = interfaces()
    for one in found:
        if ip_address(one.address) in network:
            return one.address, one.name
    told = ", ".join(f"{one.address} on {one.name}" for one in found) or "none"
    raise NotFitError(
        f"host {host.name}: no address of this machine is in {host.network}; found: {told}",
        hint="set `network:` to one that all hosts are in, or `address:` for each host",
    )
