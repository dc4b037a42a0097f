"""All machines of a spec at once: sessions to them, over whatever transport each has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import NotFitError
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from launcher.hosts.ssh_config import Target, resolve
from launcher.hosts.ssh_options import SshConfig
from launcher.spec.model import HostSpec

if TYPE_CHECKING:
    from launcher.hosts.openssh_ask import Asker
    from launcher.hosts.paramiko_connect import Connector
    from launcher.hosts.paramiko_wire import Wire

Ask = Callable[[str], "str | None"]


class Reacher:
    """Opens sessions, and keeps what they share: jump hosts' connections, keys, passphrases. For any thread.

    Starts no thread and imports nothing heavy before the first `open`. Close it after its sessions.
    """

    def __init__(
        self,
        *,
        connect_s: float,
        ask: Ask | None = None,
        say: Callable[[str], None] | None = None,
        config: Path | None = None,
    ) -> None:
        """`connect_s` is what every machine on the way has for itself; `ask(prompt)` returns a passphrase, or None if
        nobody answers, and is called by one thread at a time; `say` is told what was done on the way (from any
        thread); `config` stands for ~/.ssh/config."""
        self._connect_s, self._ask, self._say, self._config_path = connect_s, ask, say, config
        self._lock = threading.Lock()
        self._config: SshConfig | None = None
        self._shared: Connector | None = None
        self._asker: Asker | None = None
        self._ways: dict[Target, Future[Wire]] = {}
        self._old: list[Wire] = []  # ways that do not answer any more

    def __enter__(self) -> Reacher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, host: HostSpec, *, bulk: bool = False) -> Session:
        """A session of its own to `host`; `bulk` is for one that will carry much, at the price of memory.

        Blocks up to `connect_s` for each machine on the way, not counting what a person is asked for. Raises
        NotFitError.
        """
        if host.local:
            return LocalSession(host.name)
        if host.transport == "openssh":
            return self._open_openssh(host)
        from launcher.hosts.paramiko_session import ParamikoSession

        target = resolve(host, self._read_config())
        return ParamikoSession(host.name, partial(self._connect, host, target, bulk=bulk), timeout_s=self._connect_s)

    def close(self) -> None:
        """End the connections to jump hosts; sessions through them end, too. May be called twice."""
        with self._lock:
            ways, self._ways = list(self._ways.values()), {}
            old, self._old = self._old, []
        made = [way.result() for way in ways if way.done() and way.exception() is None]
        for wire in reversed([*old, *made]):  # those that go through others first
            wire.hang_up()

    def _open_openssh(self, host: HostSpec) -> Session:
        from launcher.hosts.openssh import connect
        from launcher.hosts.openssh_ask import Asker

        with self._lock:
            if self._asker is None and self._ask is not None:
                self._asker = Asker(self._ask)
        return connect(
            host, connect_s=self._connect_s, asker=self._asker, say=self._say or _silent, config=self._config_path
        )

    def _connect(self, host: HostSpec, target: Target, *, bulk: bool) -> Wire:
        carrier = self._carrier(host, target.via)
        try:
            return self._connector().connect(host.name, target, host.host_keys, carrier=carrier, bulk=bulk)
        except NotFitError:
            if carrier is None or carrier.whole:
                raise
        # The jump host's connection broke under us: the next one is made anew, or says why not.
        carrier = self._carrier(host, target.via)
        return self._connector().connect(host.name, target, host.host_keys, carrier=carrier, bulk=bulk)

    def _read_config(self) -> SshConfig:
        with self._lock:
            if self._config is None:
                self._config = SshConfig.read(self._config_path)
            return self._config

    def _connector(self) -> Connector:
        with self._lock:
            if self._shared is None:
                import logging

                from launcher.hosts.paramiko_connect import Connector, Turns
                from launcher.hosts.paramiko_keys import Keyring

                # It has nothing to say that our errors do not say better, and would say it on the terminal.
                logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
                self._shared = Connector(Keyring(self._ask), Turns(), self._connect_s, self._say or _silent)
            return self._shared

    def _carrier(self, host: HostSpec, via: Target | None) -> Wire | None:
        """The connection to the last jump host, one for all that lie behind it."""
        try:
            return None if via is None else self._way(host, via)
        except NotFitError as error:
            raise NotFitError(f"{host.name}: jump host {error.message}", hint=error.hint) from error

    def _way(self, host: HostSpec, via: Target) -> Wire:
        while True:
            with self._lock:
                way = self._ways.get(via)
                mine = way is None
                if way is None:
                    way = self._ways[via] = Future()
            if mine:
                self._make_way(host, via, way)
                return way.result()
            wire = way.result()
            if wire.answers(self._connect_s / 3):
                return wire
            # Those who still use it may see it come back to life: it is only not given to anyone else.
            with self._lock:
                if self._ways.get(via) is way:
                    del self._ways[via]
                    self._old = [*(one for one in self._old if one.whole), wire]

    def _make_way(self, host: HostSpec, via: Target, way: Future[Wire]) -> None:
        # A pinned fingerprint is the host's own.
        rule = "known" if host.host_keys.startswith("SHA256:") else host.host_keys
        try:
            carrier = None if via.via is None else self._way(host, via.via)
            way.set_result(self._connector().connect(via.alias, via, rule, carrier=carrier))
        except BaseException as error:
            with self._lock:
                self._ways.pop(via, None)
            way.set_exception(error)


def _silent(_: str) -> None:
    """For whoever does not want to hear."""


def reach(hosts: Sequence[HostSpec], reacher: Reacher, *, bulk: bool = False) -> dict[str, Session | NotFitError]:
    """A session to each host, or why there is none; all at once, so that the slowest says how long it takes."""
    found: dict[str, Session | NotFitError] = {}

    def one(host: HostSpec) -> None:
        try:
            found[host.name] = reacher.open(host, bulk=bulk)
        except NotFitError as error:
            found[host.name] = error
        except Exception as error:  # one host's surprise is not the others'
            found[host.name] = NotFitError(f"{host.name}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=one, args=(host,), name=f"reach {host.name}", daemon=True) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {host.name: found[host.name] for host in hosts}
