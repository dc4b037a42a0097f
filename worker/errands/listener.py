"""A listener that proves who it is: what a probe puts where a worker's server will be."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time
from functools import partial
from typing import Dict, List, Optional, Set, Tuple

NONCE = 16
TOKEN = 32  # a random text that names a host in this check; no secret
_PATIENCE_S = 10.0  # with a connection that says nothing


class Listener:
    """What listens on every interface, until `close`. Its sockets are in the selector with what is to be called for
    them; `tend` is to be called now and then."""

    def __init__(self, selector: selectors.BaseSelector, token: bytes) -> None:
        self._selector = selector
        self._token = token
        self._sockets: List[socket.socket] = []
        self._visitors: Set[Visitor] = set()
        self._tended_at = time.monotonic()

    def open(self, ports: List[int]) -> Tuple[Dict[str, str], int]:
        """({port: why not} for those it cannot have, one more port that the kernel chose, 0 if it gave none)."""
        failed: Dict[str, str] = {}
        extra = 0
        for port in [*ports, 0]:
            try:
                listener = _listener(port)
            except OSError as error:
                if port:
                    failed[str(port)] = error.strerror or str(error)
                continue
            extra = extra if port else int(listener.getsockname()[1])
            self._sockets.append(listener)
            self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
        return failed, extra

    def tend(self) -> None:
        """Send away who has said nothing for long."""
        now = time.monotonic()
        if now > self._tended_at + 1.0:
            self._tended_at = now
            for visitor in [one for one in self._visitors if one.late]:
                self._let_go(visitor)

    def close(self) -> None:
        for visitor in list(self._visitors):
            self._let_go(visitor)
        for listener in self._sockets:
            self._selector.unregister(listener)
            listener.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # it went again, or there are too many
            return
        connection.setblocking(False)
        visitor = Visitor(connection)
        self._visitors.add(visitor)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._proceed, visitor))
        self._proceed(visitor)  # most have said what they want by then

    def _proceed(self, visitor: "Visitor") -> None:
        if not visitor.proceed(self._token):
            self._let_go(visitor)

    def _let_go(self, visitor: "Visitor") -> None:
        self._visitors.discard(visitor)
        self._selector.unregister(visitor.connection)
        visitor.connection.close()


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


class Visitor:
    """A connection to a listener of ours."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._nonce = b""
        self._deadline = time.monotonic() + _PATIENCE_S
        # Closed by a reset: the port must not be left in TIME_WAIT, where a worker will want it at once.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @property
    def late(self) -> bool:
        return time.monotonic() > self._deadline

    def proceed(self, token: bytes) -> bool:
        """Read, and answer when the nonce is whole. False when the connection is over."""
        try:
            data = self.connection.recv(NONCE)
            if data and len(self._nonce) < NONCE:
                self._nonce += data
                if len(self._nonce) >= NONCE:
                    self.connection.send(proof(token, self._nonce[:NONCE]))
            if data:
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False
