"""Which ports of a range are free on this machine."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import List, Optional, Tuple


def free(low: int, high: int, count: int, *, offset: Optional[int] = None) -> Tuple[int, ...]:
    """Up to `count` ports of low…high (inclusive) that nothing has bound on any interface, in the order of their use.

    The search begins at `offset` (in the range, from low), by default one that differs from call to call: so two runs
    that look at once seldom find the same, and a port is not used again soon after its last holder.
    """
    span = high - low + 1
    if span <= 0:
        return ()
    start = (time.time_ns() // 1000 ^ os.getpid() * 40503) if offset is None else offset
    found: List[int] = []
    for step in range(span):
        port = low + (start + step) % span
        if bindable(port):
            found.append(port)
            if len(found) == count:
                break
    return tuple(found)


def bindable(port: int) -> bool:
    """Whether a server could listen on every interface, IPv4 and IPv6, as TensorFlow's does."""
    families = [socket.AF_INET6, socket.AF_INET] if socket.has_ipv6 else [socket.AF_INET]
    for family in families:
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # a kernel without IPv6
            continue
        with probe:
            try:
                # Without SO_REUSEADDR, which would allow a port whose last connections are not over yet.
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
            except OSError as error:
                if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:  # IPv6 is switched off
                    continue
                return False
    return True


def ephemeral() -> Optional[Tuple[int, int]]:
    """The range (inclusive) from which the kernel gives ports to outgoing connections; None if it does not tell."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            low, high = file.read().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return None
