"""Where the other workers reach this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network

from launcher.errors import NotFitError
from launcher.spec.model import HostSpec

# A documentation address (RFC 5737): it only asks the kernel which of our addresses it would send from.
_ANYWHERE = "192.0.2.1"


def address_of(host: HostSpec, *, alone: bool) -> tuple[str, str]:
    """(address, interface) of this machine for a local host; the interface is empty where it is not known.

    `alone` says that every host of the spec is this machine. No packet is sent. Raises NotFitError if `network` is
    none of this machine's.
    """
    if host.address:
        return host.address, next((name for name, address in _interfaces() if address == host.address), "")
    if host.network:
        return _in_network(host)
    return ("127.0.0.1" if alone else _outgoing()), ""


def _in_network(host: HostSpec) -> tuple[str, str]:
    network = ip_network(str(host.network), strict=False)
    found = _interfaces()
    for name, address in found:
        if ip_address(address) in network:
            return address, name
    told = ", ".join(f"{address} on {name}" for name, address in found) or "none"
    raise NotFitError(
        f"host {host.name}: no address of this machine is in {host.network}; found: {told}",
        hint="set `network:` to one that all hosts are in, or `address:` for each host",
    )


def _interfaces() -> list[tuple[str, str]]:
    import psutil

    return [
        (name, address.address.partition("%")[0])
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]


def _outgoing() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ANYWHERE, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
