"""Which machine this is."""

from __future__ import annotations

import os
import socket


def machine() -> str:
    """This running kernel and its network. /etc/machine-id would do neither: clones share it, containers lack it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return "{}/{}".format(file.read().strip(), os.readlink("/proc/self/ns/net"))
    except (OSError, ValueError):
        return socket.gethostname()
