"""A listener that proves who it is: what a probe puts where a worker's server will be."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import threading
import time
from typing import Any, Dict, List, Optional, Tuple

NONCE = 16
TOKEN = 32  # a random text that names a host in this check; no secret
_PATIENCE_S = 10.0  # with a connection that says nothing


def listen(ports: List[int], token: bytes) -> Tuple[Dict[str, str], int]:
    """Listen on every interface until the process ends, in a thread of its own.

    Returns ({port: why not} for those it cannot have, one more port that the kernel chose, 0 if it gave none).
    """
    failed: Dict[str, str] = {}
    listeners = []
    extra = 0
    for port in [*ports, 0]:
        try:
            listeners.append(_listener(port))
            extra = extra if port else int(listeners[-1].getsockname()[1])
        except OSError as error:
            if port:
                failed[str(port)] = error.strerror or str(error)
    threading.Thread(target=_serve, args=(listeners, token), daemon=True).start()
    return failed, extra


def proof(token: bytes, nonce: bytes) -> bytes:
    """What a listener answers to a nonce: bytes have come through both ways, and it is the host that was meant."""
    return nonce + token


def _listener(port: int) -> socket.socket:
    listener: Optional[socket.socket] = None
    for family, anywhere in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind((anywhere, port))
            listener.listen(256)
            listener.setblocking(False)
            return listener
        except OSError as error:
            if listener is not None:
                listener.close()
            # A kernel without IPv6, or one in which it is switched off, still has the other.
            if family == socket.AF_INET or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def _serve(listeners: List[socket.socket], token: bytes) -> None:
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            selector.register(listener, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(1.0):
                if key.data is None:
                    _accept(key.fileobj, selector)
                elif not key.data.proceed(token):
                    selector.unregister(key.fileobj)
            for key in list(selector.get_map().values()):
                if key.data is not None and key.data.late:
                    selector.unregister(key.fileobj)
                    key.data.close()


def _accept(listener: Any, selector: selectors.BaseSelector) -> None:
    try:
        connection, _ = listener.accept()
    except OSError:  # it went again, or there are too many
        return
    connection.setblocking(False)
    selector.register(connection, selectors.EVENT_READ, Visitor(connection))


class Visitor:
    """A connection to a listener of ours."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._nonce = b""
        self._deadline = time.monotonic() + _PATIENCE_S
        # Closed by a reset: the port must not be left in TIME_WAIT, where a worker will want it at once.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @property
    def late(self) -> bool:
        return time.monotonic() > self._deadline

    def proceed(self, token: bytes) -> bool:
        """Read, and answer when the nonce is whole. False when the connection is over: it is closed then."""
        try:
            data = self._connection.recv(NONCE)
            if data and len(self._nonce) < NONCE:
                self._nonce += data
                if len(self._nonce) >= NONCE:
                    self._connection.send(proof(token, self._nonce[:NONCE]))
            if data:
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        self.close()
        return False

    def close(self) -> None:
        self._connection.close()
