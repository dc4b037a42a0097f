"""The way to a login: over jump hosts, each of them logged in on once, for all the hosts behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from launcher.errors import NotFitError
from launcher.hosts.openssh_login import Login, Settings, gate_of, is_pin, settings_of
from launcher.hosts.openssh_master import How, Master, log_in

_MAX_HOPS = 8

Way = tuple[Login, ...]  # the machines that a connection passes, the nearest first


@dataclass
class _Gate:
    master: Master
    users: int
    close: Callable[[], None]


class _Gates:
    """Connections to jump hosts, shared by all sessions of this process, closed with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Way, threading.Lock] = {}
        self._gates: dict[Way, _Gate] = {}

    def enter(self, way: Way, settings: tuple[Settings, ...], how: How) -> tuple[Master, Callable[[], None]]:
        """(a connection to the last of `way`, what says that it is no longer needed). Blocks. Raises NotFitError."""
        with self._lock:
            lock = self._locks.setdefault(way, threading.Lock())
        with lock:  # one logs in, whoever else wants to waits
            gate = self._gates.get(way)
            if gate is None or not gate.master.alive:
                master, close = self.log_in(way, settings, how)
                gate = self._gates[way] = _Gate(master, 0, close)
            with self._lock:
                gate.users += 1
        return gate.master, lambda: self._leave(way, gate)

    def log_in(self, way: Way, settings: tuple[Settings, ...], how: How) -> tuple[Master, Callable[[], None]]:
        """A login of one's own on the last of `way`; the others are shared."""
        if len(way) == 1:
            master = log_in(way[0], settings[0], how, None)
            return master, master.close
        # A pin is the key of the last one alone.
        rule = "known" if is_pin(how.host_keys) else how.host_keys
        gate, leave = self.enter(way[:-1], settings[:-1], replace(how, host_keys=rule))
        try:
            master = log_in(way[-1], settings[-1], how, gate)
        except BaseException:
            leave()
            raise

        def close() -> None:
            master.close()
            leave()

        return master, close

    def _leave(self, way: Way, gate: _Gate) -> None:
        with self._lock:
            gate.users -= 1
            last = gate.users == 0
            if last and self._gates.get(way) is gate:
                del self._gates[way]
        if last:
            gate.close()


_gates = _Gates()


def reach(login: Login, how: How) -> tuple[Master, Callable[[], None]]:
    """Log in; (the login, what logs out and leaves its jump hosts). Blocks. Raises NotFitError."""
    way, settings = [login], [settings_of(login)]
    while (gate := gate_of(way[0], settings[0])) is not None:
        if len(way) > _MAX_HOPS:
            raise NotFitError(f"the way to {login.destination} has more than {_MAX_HOPS} jumps, or a loop")
        # Whichever host it stands before, it is the same gate.
        gate = replace(gate, host=f"jump host {gate.destination}")
        way.insert(0, gate)
        settings.insert(0, settings_of(gate))
    return _gates.log_in(tuple(way), tuple(settings), how)
