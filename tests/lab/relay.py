"""A TCP relay that stands between a client and a host, and behaves as badly as it is told. Needs no root."""

from __future__ import annotations

import contextlib
import dataclasses
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.lab.hosts import SshHost

_AHEAD = 1 << 22  # bytes that may be on their way in one direction


@dataclass(eq=False)
class _Way:
    """One direction of a connection."""

    source: socket.socket
    target: socket.socket
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)  # (when it arrives, what)
    size: int = 0
    ended: bool = False  # the source has said its last


class Relay:
    """Listens on `address`:`port` and carries bytes to and from `target`, each `delay_s` late."""

    def __init__(self, target: tuple[str, int], address: str = "127.0.0.1", delay_s: float = 0.0) -> None:
        self.target = target
        self.delay_s = delay_s
        self.carried = 0  # bytes, both directions
        self._listener = socket.create_server((address, 0), backlog=64)
        self.address: str = address
        self.port: int = self._listener.getsockname()[1]
        self._ways: list[_Way] = []
        self._lock = threading.Lock()
        self._frozen = False
        self._closed = False
        self._stop_after: int | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._loop, name="lab-relay", daemon=True)
        self._thread.start()

    def freeze(self) -> None:
        """Carry nothing, and tell nobody: a black hole, for connections there are and those to come."""
        self._frozen = True

    def thaw(self) -> None:
        self._frozen = False
        self._wake()

    def reset(self) -> None:
        """Break every connection, as when a machine in between restarts: both ends get a reset."""
        with self._lock:
            for way in self._ways:
                way.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._drop_all()

    def hang_up(self) -> None:
        """End every connection politely in the middle of things: both ends get a clean end of stream."""
        with self._lock:
            self._drop_all()

    def hang_up_after(self, count: int) -> None:
        """`hang_up` as soon as `count` more bytes have been carried."""
        self._stop_after = self.carried + count

    def close(self) -> None:
        """May be called twice."""
        if not self._closed:
            self._closed = True
            self._wake()
            self._thread.join(5)
            self.hang_up()
            for one in (self._listener, self._wake_read, self._wake_write):
                one.close()
            self._selector.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_write.send(b"!")

    def _loop(self) -> None:
        self._listener.setblocking(False)
        self._wake_read.setblocking(False)
        while not self._closed:
            with self._lock:
                wait = self._register()
            ready = {key.fd for key, _ in self._selector.select(wait)}
            with self._lock:
                if self._wake_read.fileno() in ready:
                    with contextlib.suppress(OSError):
                        self._wake_read.recv(4096)
                if not self._frozen:
                    self._turn(ready)

    def _register(self) -> float | None:
        """Say which descriptors matter now; returns how long to wait at most."""
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        if self._frozen:
            return None
        wanted: dict[socket.socket, int] = {self._listener: selectors.EVENT_READ}
        now, wait = time.monotonic(), None
        for way in self._ways:
            if not way.ended and way.size < _AHEAD:
                wanted[way.source] = wanted.get(way.source, 0) | selectors.EVENT_READ
            if way.under_way and way.under_way[0][0] <= now:
                wanted[way.target] = wanted.get(way.target, 0) | selectors.EVENT_WRITE
            elif way.under_way:
                wait = min(wait or 60.0, way.under_way[0][0] - now)
        for one, events in wanted.items():
            self._selector.register(one, events)
        return wait

    def _turn(self, ready: set[int]) -> None:
        if self._listener.fileno() in ready:
            self._accept()
        for way in list(self._ways):
            if way not in self._ways:
                continue
            try:
                if way.source.fileno() in ready and not way.ended and way.size < _AHEAD:
                    self._take(way)
                self._give(way)
            except BlockingIOError:
                continue
            except OSError:
                self._drop(way)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                client.close()
                return
            for one in (client, server):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ways += [_Way(client, server), _Way(server, client)]

    def _take(self, way: _Way) -> None:
        data = way.source.recv(1 << 16)
        way.ended = not data
        way.size += len(data)
        way.under_way.append((time.monotonic() + self.delay_s, data))

    def _give(self, way: _Way) -> None:
        while way.under_way and way.under_way[0][0] <= time.monotonic():
            due, data = way.under_way.popleft()
            if not data:
                way.target.shutdown(socket.SHUT_WR)
                self._forget_if_over(way)
                return
            if self._stop_after is not None and self.carried + len(data) >= self._stop_after:
                with contextlib.suppress(OSError):
                    way.target.send(data[: max(0, self._stop_after - self.carried)])
                self._stop_after = None
                self._drop_all()
                return
            try:
                sent = way.target.send(data)
            except BlockingIOError:
                sent = 0
            self.carried += sent
            way.size -= sent
            if sent < len(data):
                way.under_way.appendleft((due, data[sent:]))
                return

    def _forget_if_over(self, way: _Way) -> None:
        pair = [one for one in self._ways if one.source in (way.source, way.target)]
        if all(one.ended and not one.under_way for one in pair):
            self._drop(way)

    def _drop(self, way: _Way) -> None:
        self._ways = [one for one in self._ways if one.source not in (way.source, way.target)]
        for one in (way.source, way.target):
            one.close()

    def _drop_all(self) -> None:
        while self._ways:
            self._drop(self._ways[0])
        self._wake()


@contextlib.contextmanager
def relayed(host: SshHost, delay_s: float = 0.0) -> Iterator[tuple[SshHost, Relay]]:
    """The same host, reached through a relay under the alias `<name>-relayed`; start and stop the other one."""
    relay = Relay((host.address, host.port), delay_s=delay_s)
    try:
        far = dataclasses.replace(
            host, name=f"{host.name}-relayed", address=relay.address, port=relay.port, address6=""
        )
        with open(host.known_hosts, "a") as known:
            known.write(f"{far.known_as} {host.host_key}\n")
        alias = f"Host {far.name}\n  HostName {far.address}\n  Port {far.port}\n"
        host.config.write_text(alias + host.config.read_text())
        yield far, relay
    finally:
        relay.close()


@contextlib.contextmanager
def black_hole(address: str = "127.0.0.1") -> Iterator[int]:
    """The port of something that takes connections and never says a word."""
    with socket.create_server((address, 0), backlog=64) as listener:
        yield int(listener.getsockname()[1])
