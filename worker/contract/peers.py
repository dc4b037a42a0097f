"""Who is at the other end of a socket of this machine, by the kernel's word."""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

_CREDENTIALS = struct.Struct("3i")


class Peer(NamedTuple):
    """The process that connected, or that called listen(): a pid may be somebody else's by now, a uid never."""

    pid: int
    uid: int

    @property
    def mine(self) -> bool:
        """Whether it is of this user: abstract names are anybody's to bind and to connect to."""
        return self.uid == os.getuid()


def peer_of(connected: socket.socket) -> Peer:
    """The peer of a connected Unix socket. Raises OSError."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid)
