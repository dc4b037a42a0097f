"""Whether the workers' ports of other hosts can be reached from here, tried for real."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from ..contract.machine.interfaces import is_number
from .listener import NONCE, TOKEN, proof
from .together import collect

_AT_ONCE = 300  # attempts under way: a usual limit is 1024 open files
_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timed out",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
    errno.EPERM: "forbidden by this host's own firewall",
    errno.ECONNRESET: "reset",
}
_MOST_TIMES = 5  # the deadline, while others still answer
TIMED_OUT = _WORDS[errno.ETIMEDOUT]


def attempt(
    targets: Mapping[str, Tuple[str, int, bytes]],
    timeout_s: float,
    selector: Optional[selectors.BaseSelector] = None,
) -> Dict[str, Tuple[str, float]]:
    """Connect to all targets at once and ask each for its proof. Returns {id: (why not or "", milliseconds)}.

    What else is in the selector is served meanwhile: its data are called.
    """
    found, unknown = _look_up({address for address, _, _ in targets.values()}, timeout_s)
    results: Dict[str, Tuple[str, float]] = {
        name: (f"{address} cannot be resolved: {unknown[address]}", 0.0)
        for name, (address, _, _) in targets.items()
        if address in unknown
    }
    names = [name for name in targets if name not in results]
    for at in range(0, len(names), _AT_ONCE):
        trials = []
        for name in names[at : at + _AT_ONCE]:
            address, port, token = targets[name]
            trials.append(Trial(name, found[address], port, token))
        results.update(_carry_out(trials, timeout_s, selector or selectors.DefaultSelector()))
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
            data = self.socket.recv(NONCE + TOKEN + 1 - len(self._got))
            self._got += data
            if not data or len(self._got) >= NONCE + TOKEN:
                self.end("" if self._got == self._expected else "something else answers there")
        except BlockingIOError:
            pass
        except OSError as error:
            self._check(error.errno or errno.EIO)

    def end(self, why: str) -> None:
        """It is known how this one ended."""
        self.why, self.over = why, True
        self.milliseconds = round((time.monotonic() - self._begun) * 1000, 1)

    def time_out(self) -> None:
        """The deadline has passed."""
        self.end("accepted, but no answer came" if self._sent else TIMED_OUT)
        self.socket.close()

    def _check(self, code: int) -> bool:
        if code in (0, errno.EINPROGRESS):
            return code == 0
        self.end(_WORDS.get(code, os.strerror(code)))
        return False


def _carry_out(trials: List[Trial], timeout_s: float, selector: selectors.BaseSelector) -> Dict[str, Tuple[str, float]]:
    begun = quiet_since = time.monotonic()
    running: Dict[int, Trial] = {}
    for trial in trials:
        if trial.over:
            trial.socket.close()
        else:
            running[trial.socket.fileno()] = trial
            selector.register(trial.socket, trial.waits_for, trial)
    while running:
        now = time.monotonic()
        # As long as some answer, others may only be slow: this host, or theirs, has much to do.
        left = min(quiet_since + timeout_s, begun + _MOST_TIMES * timeout_s) - now
        if left <= 0:
            break
        for key, _ in selector.select(left):
            if not isinstance(key.data, Trial):
                key.data()
                continue
            quiet_since = time.monotonic()
            _proceed(key.data, key.fd, selector, running)
    for trial in running.values():
        selector.unregister(trial.socket)
        trial.time_out()
    return {trial.name: (trial.why, trial.milliseconds) for trial in trials}


def _proceed(trial: Trial, number: int, selector: selectors.BaseSelector, running: Dict[int, Trial]) -> None:
    waited_for = trial.waits_for
    trial.proceed()
    if trial.over:
        selector.unregister(number)
        del running[number]
        trial.socket.close()
    elif trial.waits_for != waited_for:
        selector.modify(number, trial.waits_for, trial)


def _look_up(addresses: Set[str], timeout_s: float) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """({address: (family, its number)}, {address: why there is none}). Only names take a thread and time."""
    found = {
        address: (socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        for address in addresses
        if is_number(address)
    }
    names = sorted(addresses - set(found))
    if not names:
        return found, {}
    looked_up, unknown = collect({name: _resolver(name) for name in names}, dict.fromkeys(names, timeout_s))
    return {**found, **looked_up}, unknown


def _resolver(address: str) -> Any:
    def resolve() -> "Tuple[int, str]":
        family, _, _, _, place = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0]
        return family, str(place[0])

    return resolve
