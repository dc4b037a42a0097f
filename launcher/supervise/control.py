"""The coordinator's control socket: other terminals of the same user ask it to stop."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from typing import Any

from launcher.errors import RunError
from launcher.runs.alive import coordinates, coordinator_pid
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read
from worker.contract import layout, wire
from worker.contract.peers import peer_of

STOP = "stop"
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
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_s)
        try:
            peer.connect(layout.coordinator_socket(str(run.path)))
            if not peer_of(peer).mine:
                return False
            peer.sendall(wire.encode({"type": STOP, "how": how, "by": by}))
            decoder = wire.Decoder()
            while data := peer.recv(4096):
                if any(message["type"] == ANSWER for message in decoder.feed(data)):
                    return True
        except (OSError, wire.WireError):
            return False
    return False


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
    """Answers on the control socket within the coordinator's loop; `take` gives the orders that have come."""

    def __init__(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
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
