"""The connections to an agent: frames in, frames out, with bounded buffers. A client that does not read is dropped."""

from __future__ import annotations

import selectors
import socket
import time
from typing import Callable, Dict, Optional

from ..contract import wire
from ..contract.peers import peer_of
from .journal import Follower

PIECE = 1 << 16
MOST_CLIENTS = 64
MOST_WAITING = 1 << 22
FULL_ENOUGH = 1 << 18  # no further events are taken from the journal above this
PATIENCE_S = 30.0  # for a client that takes nothing
SILENCE_S = 120.0  # without a word from the one that is told all events: it renews the lease every second
_MOST_GAP_S = 2.0  # of that silence in one turn: we may have slept ourselves
LAST_PATIENCE_S = 0.5


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.decoder = wire.Decoder()
        self.out = bytearray()
        self.taken_at = time.monotonic()
        self.silent_s = 0.0
        self.watched = 0  # what the selector waits for
        self.heard_out = False  # it will say no more, and is closed once it has what was written for it


class Clients:
    """Every connection by a number that is never used twice. No method blocks or raises for what a client did."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        received: Callable[[int, wire.Message], None],
        connected: Callable[[int], None],
        disconnected: Callable[[int], None],
        silence_s: float = SILENCE_S,
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._received, self._connected, self._disconnected = received, connected, disconnected
        self._clients: Dict[int, _Client] = {}
        self._last = 0
        self._followed_by: Optional[int] = None
        self._follower: Optional[Follower] = None
        self._silence_s = silence_s
        self._pumped_at = time.monotonic()
        self.behind = False  # there are further events for a client that takes those that it has
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def send(self, number: int, message: wire.Message) -> None:
        client = self._clients.get(number)
        if client is None or client.heard_out:
            return
        if not client.out:
            client.taken_at = time.monotonic()
        client.out += wire.encode(message)

    def follow(self, number: int, follower: Follower) -> None:
        """From now on this client, and no other, is sent what the follower reads."""
        self._followed_by, self._follower = number, follower

    def pump(self) -> None:
        """Give the follower its events, send what can be sent, drop who does not read. Once a turn."""
        self._pump_events()
        now = time.monotonic()
        gap_s, self._pumped_at = min(now - self._pumped_at, _MOST_GAP_S), now
        for number, client in list(self._clients.items()):
            self._write(number, client)
            client.silent_s += gap_s
            stuck = client.out and now > client.taken_at + PATIENCE_S
            # Its link was cut. sshd takes what we say to nobody for a quarter of an hour, and we would stay for it.
            stuck = stuck or (number == self._followed_by and client.silent_s > self._silence_s)
            if stuck or len(client.out) > MOST_WAITING or (client.heard_out and not client.out):
                self._drop(number)

    def stop_listening(self) -> None:
        self._listener.close()

    def close(self) -> None:
        """Let every client have what was written for it, for a short while, and close."""
        until = time.monotonic() + LAST_PATIENCE_S
        while time.monotonic() < until:
            self._pump_events()
            for number, client in list(self._clients.items()):
                self._write(number, client)
            if not self.behind and not any(client.out for client in self._clients.values()):
                break
            time.sleep(0.005)
        for client in self._clients.values():
            client.connection.close()

    def _accept(self, _: int) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError:
            return
        if not peer_of(connection).mine or len(self._clients) >= MOST_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        self._last += 1
        number = self._last
        self._clients[number] = _Client(connection)
        self._watch(number, self._clients[number])
        self._connected(number)

    def _ready(self, number: int, mask: int) -> None:
        client = self._clients.get(number)
        if client is None:
            return
        if mask & selectors.EVENT_WRITE:
            self._write(number, client)
        if mask & selectors.EVENT_READ and not client.heard_out:
            self._read(number, client)

    def _read(self, number: int, client: _Client) -> None:
        try:
            data = client.connection.recv(PIECE)
            messages = client.decoder.feed(data)
        except BlockingIOError:
            return
        except (OSError, wire.WireError):
            self._drop(number)
            return
        client.silent_s = 0.0
        for message in messages:
            self._received(number, message)
        if not data:
            self._hear_out(number, client)

    def _hear_out(self, number: int, client: _Client) -> None:
        client.heard_out = True
        self._unfollow(number)
        self._watch(number, client)
        self._disconnected(number)

    def _pump_events(self) -> None:
        client = self._clients.get(self._followed_by or 0)
        self.behind = False
        if client is None or self._follower is None:
            return
        while len(client.out) < FULL_ENOUGH:
            for event in self._follower.take():
                self.send(self._followed_by or 0, {"type": wire.EVENT, "event": event})
            if not self._follower.more:
                return
        self.behind = True

    def _write(self, number: int, client: _Client) -> None:
        if not client.out:
            return
        try:
            sent = client.connection.send(client.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(number)
            return
        if sent:
            client.taken_at = time.monotonic()
            del client.out[:sent]
        self._watch(number, client)

    def _watch(self, number: int, client: _Client) -> None:
        wanted = 0 if client.heard_out else selectors.EVENT_READ
        wanted |= selectors.EVENT_WRITE if client.out else 0
        if wanted == client.watched:
            return
        if client.watched:
            self._selector.unregister(client.connection)
        if wanted:
            self._selector.register(client.connection, wanted, lambda mask: self._ready(number, mask))
        client.watched = wanted

    def _unfollow(self, number: int) -> None:
        if self._followed_by == number:
            self._followed_by = self._follower = None

    def _drop(self, number: int) -> None:
        client = self._clients.pop(number)
        self._unfollow(number)
        if client.watched:
            self._selector.unregister(client.connection)
        client.connection.close()
        if not client.heard_out:
            self._disconnected(number)
