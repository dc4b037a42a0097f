"""`probe`: whether workers on this host and on the others would reach each other, tried for real.

The coordinator sends, one after the other:
  listen {ports, token}                    answered by listening {failed: {port: why}}
  try {targets: {id: [address, port, token]}, timeout_s}    answered by tried {results: {id: [why, milliseconds]}}
`why` is empty for a target that was reached and answered as the host whose token that is. Whoever listens proves that
it knows its own token; so an address that leads to another machine is found, and a port that somebody else holds.
Like TensorFlow, this listens on every interface.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import selectors
import socket
import threading
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .talk import Talk
from .together import collect

NONCE = 16
PROOF = 32
_AT_ONCE = 300  # attempts under way: a usual limit is 1024 open files
_PATIENCE_S = 10.0  # of a listener with a connection that says nothing
_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timed out",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
    errno.EPERM: "forbidden by this host's own firewall",
    errno.ECONNRESET: "reset",
}
TIMED_OUT = _WORDS[errno.ETIMEDOUT]


def main(argv: List[str]) -> int:  # noqa: ARG001
    """Answer until nobody asks any more; then nothing listens any more."""
    talk = Talk()
    while True:
        frame = talk.receive()
        if frame is None:
            return 0
        message = frame[0]
        if message["type"] == "listen":
            failed = listen([int(port) for port in message["ports"]], str(message["token"]).encode())
            talk.send({"type": "listening", "failed": failed})
        elif message["type"] == "try":
            targets = {
                str(name): (str(address), int(port), str(token).encode())
                for name, (address, port, token) in dict(message["targets"]).items()
            }
            talk.send({"type": "tried", "results": attempt(targets, float(message["timeout_s"]))})
        else:
            talk.send({"type": "refused", "what": str(message["type"])[:100]})


def listen(ports: List[int], token: bytes) -> Dict[str, str]:
    """Listen until the process ends, in a thread of its own. Returns {port: why not} for those it cannot have."""
    failed = {}  # type: Dict[str, str]
    listeners = []
    for port in ports:
        try:
            listeners.append(_listener(port))
        except OSError as error:
            failed[str(port)] = error.strerror or str(error)
    threading.Thread(target=_serve, args=(listeners, token), daemon=True).start()
    return failed


def proof(token: bytes, nonce: bytes) -> bytes:
    """What a listener answers to a nonce."""
    return hmac.new(token, nonce, hashlib.sha256).digest()


def attempt(targets: Mapping[str, Tuple[str, int, bytes]], timeout_s: float) -> Dict[str, Tuple[str, float]]:
    """Connect to all targets at once and ask each for its proof. Returns {id: (why not or "", milliseconds)}."""
    addresses = sorted({address for address, _, _ in targets.values()})
    found, unknown = collect({a: _resolver(a) for a in addresses}, dict.fromkeys(addresses, timeout_s))
    results = {
        name: (f"{address} cannot be resolved: {unknown[address]}", 0.0)
        for name, (address, _, _) in targets.items()
        if address in unknown
    }  # type: Dict[str, Tuple[str, float]]
    names = [name for name in targets if name not in results]
    for at in range(0, len(names), _AT_ONCE):
        trials = []
        for name in names[at : at + _AT_ONCE]:
            address, port, token = targets[name]
            trials.append(Trial(name, found[address], port, token))
        results.update(_carry_out(trials, timeout_s))
    return results


class Trial:
    """One attempt to reach one target."""

    def __init__(self, name: str, address: "Tuple[int, str]", port: int, token: bytes) -> None:
        self.name = name
        self.why = ""  # why it failed
        self.over = False
        self.milliseconds = 0.0
        self._begun = time.monotonic()
        self._nonce = os.urandom(NONCE)
        self._expected = proof(token, self._nonce)
        self._got = b""
        self._sent = False
        self.socket = socket.socket(address[0], socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self._check(self.socket.connect_ex((address[1], port)))

    @property
    def waits_for(self) -> int:
        return selectors.EVENT_READ if self._sent else selectors.EVENT_WRITE

    def proceed(self) -> None:
        """The socket is ready for what the trial waits for."""
        try:
            if not self._sent:
                if self._check(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                    self.socket.send(self._nonce)
                    self._sent = True
                return
            data = self.socket.recv(PROOF + 1 - len(self._got))
            self._got += data
            if not data or len(self._got) >= PROOF:
                self.end("" if hmac.compare_digest(self._got, self._expected) else "something else answers there")
        except BlockingIOError:
            pass
        except OSError as error:
            self._check(error.errno or errno.EIO)

    def end(self, why: str) -> None:
        """It is known how this one ended."""
        self.why, self.over = why, True
        self.milliseconds = round((time.monotonic() - self._begun) * 1000, 1)
        self.socket.close()

    def time_out(self) -> None:
        """The deadline has passed."""
        self.end("accepted, but no answer came" if self._sent else TIMED_OUT)

    def _check(self, code: int) -> bool:
        if code in (0, errno.EINPROGRESS):
            return code == 0
        self.end(_WORDS.get(code, os.strerror(code)))
        return False


def _carry_out(trials: List[Trial], timeout_s: float) -> Dict[str, Tuple[str, float]]:
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        for trial in trials:
            if not trial.over:
                selector.register(trial.socket, trial.waits_for, trial)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            for key, _ in selector.select(left):
                trial = key.data
                trial.proceed()
                if trial.over:
                    selector.unregister(key.fileobj)
                else:
                    selector.modify(key.fileobj, trial.waits_for, trial)
    for trial in trials:
        if not trial.over:
            trial.time_out()
    return {trial.name: (trial.why, trial.milliseconds) for trial in trials}


def _resolver(address: str) -> Any:
    def resolve() -> "Tuple[int, str]":
        family, _, _, _, place = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0]
        return family, str(place[0])

    return resolve


def _listener(port: int) -> socket.socket:
    listener = None  # type: Optional[socket.socket]
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
        linger = (1).to_bytes(4, "little") + bytes(4)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

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
