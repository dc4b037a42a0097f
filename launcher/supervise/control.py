"""The coordinator's control socket: other terminals of the same user ask it to stop, or to do without a host."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launcher.errors import RunError
from launcher.runs.alive import coordinates, coordinator_pid
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read
from worker.contract import layout, wire
from worker.contract.peers import peer_of

STOP = "stop"
DRAIN = "drain"
ANSWER = "heard"


def bind(run: RunFolder) -> socket.socket | None:
    """Take the run's socket, which is its lock; None if a coordinator has it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(layout.coordinator_socket(str(run.path)))
    except OSError:
        listener.close()
        return None
    listener.listen(16)
    listener.setblocking(False)
    return listener


def ask_to_stop(run: RunFolder, how: str, by: str, *, timeout_s: float = 5.0) -> bool:
    """Ask the living coordinator to stop the run; False if there is none, or it does not answer in time."""
    return _ask(run, {"type": STOP, "how": how, "by": by}, timeout_s) is not None


def ask_to_drain(
    run: RunFolder, hosts: Sequence[str], by: str, *, park: bool, timeout_s: float = 5.0
) -> Mapping[str, Any] | None:
    """Ask the living coordinator to do without these hosts; `park`: even if the run cannot go on then.

    Its answer: `problem` and `hint`, empty if it does so. None if no coordinator answers in time.
    """
    return _ask(run, {"type": DRAIN, "hosts": list(hosts), "by": by, "park": park}, timeout_s)


def _ask(run: RunFolder, message: wire.Message, timeout_s: float) -> wire.Message | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_s)
        try:
            peer.connect(layout.coordinator_socket(str(run.path)))
            if not peer_of(peer).mine:
                return None
            peer.sendall(wire.encode(message))
            decoder = wire.Decoder()
            while data := peer.recv(4096):
                for answer in decoder.feed(data):
                    if answer["type"] == ANSWER:
                        return answer
        except (OSError, wire.WireError):
            return None
    return None


def end_coordinator(run: RunFolder, *, timeout_s: float = 5.0) -> None:
    """Kill the run's coordinator, be it frozen, and wait until its socket is free. Raises RunError.

    What it had begun goes on: workers are their agents', and the journal is written line by line.
    """
    pid = coordinator_pid(run, read(run.journal))
    if not pid:
        raise RunError(f"the coordinator of {run.name} cannot be told from other processes", hint="see: launcher ps")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    while coordinates(run):
        if time.monotonic() > deadline:
            raise RunError(f"the coordinator of {run.name} (pid {pid}) does not end", hint=f"ps -o stat,wchan -p {pid}")
        time.sleep(0.02)


class ControlServer:
    """Answers on the control socket within the coordinator's loop; `take` gives the orders to stop that have come.

    `drain` is called with the hosts, by whom it was asked, and whether the run may park; it gives the answer's fields.
    """

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        drain: Callable[[Sequence[str], str, bool], Mapping[str, str]],
    ) -> None:
        self._drain = drain
        self._listener = listener
        self._selector = selector
        self._peers: dict[socket.socket, wire.Decoder] = {}
        self._orders: list[dict[str, Any]] = []
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def take(self) -> list[dict[str, Any]]:
        orders, self._orders = self._orders, []
        return orders

    def close(self) -> None:
        """Close every peer. The listener stays: it is the run's lock until the process ends."""
        for peer in list(self._peers):
            self._drop(peer)
        self._selector.unregister(self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            peer, _ = self._listener.accept()
            peer.setblocking(False)
            if not peer_of(peer).mine:
                peer.close()
                return
            self._peers[peer] = wire.Decoder()
            self._selector.register(peer, selectors.EVENT_READ, lambda: self._read(peer))

    def _read(self, peer: socket.socket) -> None:
        try:
            data = peer.recv(4096)
            messages = self._peers[peer].feed(data)
            for message in messages:
                if message["type"] == STOP:
                    self._orders.append(message)
                    peer.send(wire.encode({"type": ANSWER}))
                elif message["type"] == DRAIN and isinstance(message.get("hosts"), list):
                    hosts = [str(host) for host in message["hosts"]]
                    answer = self._drain(hosts, str(message.get("by", "drain")), message.get("park") is True)
                    peer.send(wire.encode({"type": ANSWER, **answer}))
        except BlockingIOError:
            return
        except (OSError, wire.WireError):
            data = b""
        if not data:
            self._drop(peer)

    def _drop(self, peer: socket.socket) -> None:
        self._peers.pop(peer, None)
        self._selector.unregister(peer)
        peer.close()
