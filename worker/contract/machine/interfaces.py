"""The addresses of this machine's network interfaces."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from typing import List, NamedTuple

_SIOCGIFCONF = 0x8912
_SIOCGIFNETMASK = 0x891B
_NAME = 16  # IFNAMSIZ
_ENTRY = 40  # sizeof(struct ifreq) with 64-bit pointers
_MOST = 4096  # entries; more than that is no machine but a router
# A documentation address (RFC 5737): it only asks the kernel which of our addresses it would send from.
_ANYWHERE = "192.0.2.1"


class Interface(NamedTuple):
    """One address; `name` is the interface's, as NCCL wants it."""

    name: str
    address: str
    prefix: int


def interfaces() -> List[Interface]:
    """Every address, IPv4 first, in the kernel's order; link-local IPv6 ones are left out: they need a zone."""
    return [*_version4(), *_version6()]


def outgoing() -> str:
    """The address from which this machine sends to the world; loopback if it cannot. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ANYWHERE, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def is_number(address: str) -> bool:
    """Whether it is an address itself, and no name that has to be looked up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
            return True
        except (OSError, ValueError):
            continue
    return False


def _version4() -> List[Interface]:
    found: List[Interface] = []
    entry = _ENTRY if struct.calcsize("P") == 8 else 32
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        space = array.array("B", bytes(entry * _MOST))
        address, length = space.buffer_info()
        try:
            used, _ = struct.unpack("iP", fcntl.ioctl(probe, _SIOCGIFCONF, struct.pack("iP", length, address)))
        except OSError:
            return []
        data = space.tobytes()
        for at in range(0, used, entry):
            request = data[at : at + entry]
            label = request[:_NAME].split(b"\0", 1)[0].decode("utf-8", "replace")
            found.append(
                Interface(
                    label.partition(":")[0],  # an alias, eth0:1, is the interface eth0
                    socket.inet_ntop(socket.AF_INET, request[_NAME + 4 : _NAME + 8]),
                    _prefix4(probe, request),
                )
            )
    return found


def _prefix4(probe: socket.socket, request: bytes) -> int:
    """An interface may have several addresses: the kernel looks at the one that stands in the request."""
    try:
        answer = fcntl.ioctl(probe, _SIOCGIFNETMASK, request)
    except OSError:
        return 32
    return bin(int.from_bytes(answer[_NAME + 4 : _NAME + 8], "big")).count("1")


def _version6() -> List[Interface]:
    found: List[Interface] = []
    try:
        with open("/proc/net/if_inet6", encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:  # a kernel without IPv6
        return []
    for line in lines:
        try:
            digits, _, prefix, _, _, name = line.split()
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
            if not digits.startswith(("fe8", "fe9", "fea", "feb")):
                found.append(Interface(name, address, int(prefix, 16)))
        except ValueError:
            continue
    return found
