"""Making a connection: dial, exchange keys, check the host's, log in; all within one deadline."""

from __future__ import annotations

import errno
import random
import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paramiko

from launcher.errors import NotFitError
from launcher.hosts.dial import Deadline, dial
from launcher.hosts.host_keys import KeyCheck, NotThePinnedKeyError
from launcher.hosts.known_hosts import HostKey
from launcher.hosts.paramiko_keys import Keyring
from launcher.hosts.paramiko_login import BrokenOffError, log_in
from launcher.hosts.paramiko_wire import RefusedError, Wire, plain
from launcher.hosts.ssh_config import Target
from launcher.hosts.ssh_options import USE_OPENSSH

# sshd drops new connections at random from the tenth on that have not logged in (MaxStartups 10:30:100).
_AT_ONCE_PER_ADDRESS = 8
# Key exchanges at once: they keep a core busy, and each has a deadline.
_EXCHANGES_AT_ONCE = 8
_A_PERSONS_PAUSE_S = 10.0
_BUSY = (b"Exceeded MaxStartups", b"Not allowed at this time")


class _BusyError(Exception):
    """The server hung up before it said who it is: it has too much to do, and may have time a moment later."""


class Turns:
    """How many connections are being made at once, at each address and in all. Shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._addresses: dict[object, threading.Semaphore] = defaultdict(
            lambda: threading.Semaphore(_AT_ONCE_PER_ADDRESS)
        )
        self.exchanges = threading.Semaphore(_EXCHANGES_AT_ONCE)

    def at(self, target: Target) -> threading.Semaphore:
        with self._lock:
            return self._addresses[(target.address, target.port, target.via)]


@dataclass(frozen=True)
class Connector:
    """What all connections share."""

    keyring: Keyring
    turns: Turns
    connect_s: float
    say: Callable[[str], None]

    def connect(self, name: str, target: Target, rule: str, *, carrier: Wire | None = None, bulk: bool = False) -> Wire:
        """A connection to `target` as its user, through `carrier` if there is one. `name` is the host's in messages.

        Blocks up to `connect_s`, not counting what a person is asked for. Raises NotFitError.
        """
        attempt = _Attempt(self, name, target, KeyCheck(name, target, rule, self.say), carrier, bulk)
        while True:
            try:
                return attempt.until_late()
            except BrokenOffError:
                # A person took long over a passphrase, which is known now; the server has given up meanwhile.
                if attempt.deadline.halted_s < _A_PERSONS_PAUSE_S:
                    raise
                attempt.start_clock()
            except NotThePinnedKeyError as error:
                if not attempt.leave_out_shown_key():
                    raise error


class _Attempt:
    def __init__(
        self, shared: Connector, name: str, target: Target, check: KeyCheck, carrier: Wire | None, bulk: bool
    ) -> None:
        self._shared, self._name, self._target, self._check = shared, name, target, check
        self._carrier, self._bulk = carrier, bulk
        self._left_out: set[str] = set()  # types of host keys that are not the pinned one
        self._shown = ""
        self._word = ""  # with which the server began, if that was not SSH
        self._unfit: NotThePinnedKeyError | None = None
        self.start_clock()

    def start_clock(self) -> None:
        own = self._target.connect_timeout_s
        self.deadline = Deadline(min(self._shared.connect_s, own) if own else self._shared.connect_s)

    def leave_out_shown_key(self) -> bool:
        """A host has several keys, and the pinned one may be of another type. Whether there are more to ask for."""
        self._left_out |= set(_algorithms(self._shown))
        return len(self._left_out) < len(Wire.key_types)

    def until_late(self) -> Wire:
        """Connect; where the server is too busy to answer, again and again until the deadline."""
        pause = 0.1
        while True:
            try:
                with _Turn(self):
                    return self._once()
            except _BusyError as busy:
                if self.deadline.left_s < pause:
                    raise NotFitError(
                        f"{self._name}: {self._where} has hung up before saying anything, for "
                        f"{self.deadline.seconds:g} s{busy}",
                        hint="sshd takes only so many connections at once (MaxStartups), and others may be knocking; "
                        "or a firewall keeps us out",
                    ) from None
                time.sleep(random.uniform(pause / 2, pause))
                pause = min(1.0, pause * 2)

    @property
    def _where(self) -> str:
        return f"{self._target.address} port {self._target.port}"

    @property
    def turn(self) -> threading.Semaphore:
        return self._shared.turns.at(self._target)

    def wait_for_turn(self, turn: threading.Semaphore) -> None:
        """Others are before us. While one of them is asked for a passphrase, nobody is late."""
        while not turn.acquire(timeout=0.1):
            if self.deadline.left_s <= 0:
                raise NotFitError(
                    f"{self._name}: no turn to connect to {self._where} within {self.deadline.seconds:g} s",
                    hint="other connections to it are being made; is it slow to answer?",
                )
            if self._shared.keyring.asking:
                with self.deadline.halted():
                    time.sleep(0.1)

    def _once(self) -> Wire:
        sock = self._reach()
        wire = Wire(sock, carrier=self._carrier, bulk=self._bulk)
        try:
            with self.deadline.halted():
                self._shared.turns.exchanges.acquire()
            try:
                self._exchange_keys(wire)
            finally:
                self._shared.turns.exchanges.release()
            shown = wire.host_key
            assert shown is not None
            self._shown = shown.get_name()
            try:
                self._check.judge(HostKey(self._shown, shown.asbytes()))
            except NotThePinnedKeyError as error:
                self._unfit = error
                raise
            log_in(self._name, wire, self._target, self._shared.keyring, self.deadline)
        except BaseException:
            wire.hang_up()
            raise
        return wire

    def _reach(self) -> socket.socket | paramiko.Channel:
        target = self._target
        if self._carrier is not None:
            channel = self._through(self._carrier)
            inbox: Any = channel.in_buffer
            if not self._heard(inbox):
                channel.close()
                raise self._mute()
            if not len(inbox):
                channel.close()
                raise _BusyError("")
            return channel
        sock = dial(self._name, target.address, target.port, self.deadline, target.family)
        try:
            self._await_first_word(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def _heard(self, from_where: Any) -> bool:
        """Wait for the server, which speaks first. That costs nothing, and tells who is mute before work is done."""
        poll = select.poll()
        poll.register(from_where, select.POLLIN)
        return bool(poll.poll(self.deadline.left_s * 1000))

    def _through(self, carrier: Wire) -> paramiko.Channel:
        target = self._target
        gate = target.via.alias if target.via else "the jump host"
        try:
            return carrier.through(target.address, target.port, self.deadline.left_s, bulk=self._bulk)
        except RefusedError as error:
            if error.code == 1:
                raise NotFitError(
                    f"{self._name}: {gate} does not let us go on to {self._where}",
                    hint="its sshd forbids it: AllowTcpForwarding, PermitOpen, or `restrict` in authorized_keys there",
                ) from error
            raise NotFitError(
                f"{self._name}: {gate} cannot reach {self._where}" + (f": {error}" if str(error) else ""),
                hint=f"log in on {gate} and try it from there: is the name known there, the machine on, sshd running?",
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if carrier.whole:
                raise NotFitError(
                    f"{self._name}: {gate} has not reached {self._where} within {self.deadline.seconds:g} s",
                    hint=f"log in on {gate} and try it from there",
                ) from error
            raise NotFitError(f"{self._name}: the connection to {gate} broke") from error

    def _await_first_word(self, sock: socket.socket) -> None:
        if not self._heard(sock):
            raise self._mute()
        try:
            word = sock.recv(64, socket.MSG_PEEK)
        except OSError as error:
            if error.errno == errno.ECONNRESET:
                raise _BusyError("") from None
            raise NotFitError(f"{self._name}: {self._where}: {error.strerror}") from error
        self._word = plain(word.decode("latin-1")) if not word.startswith(b"SSH-") else ""
        if not word or word.startswith(_BUSY):
            raise _BusyError(f" but “{self._word}”" if word else "")

    def _mute(self) -> NotFitError:
        return NotFitError(
            f"{self._name}: {self._where} takes connections and says nothing for {self.deadline.seconds:g} s",
            hint="is it sshd that listens there? A machine that is out of memory or disk behaves like that, too",
        )

    def _exchange_keys(self, wire: Wire) -> None:
        options = wire.get_security_options()
        first = [name for kind in self._check.types for name in _algorithms(kind)]
        usable = [name for name in options.key_types if name not in self._left_out]
        options.key_types = tuple(sorted(usable, key=lambda name: name not in first))
        wire.banner_timeout = wire.handshake_timeout = self.deadline.left_s + 1.0
        try:
            wire.start_client(timeout=max(0.01, self.deadline.left_s))
        except paramiko.ssh_exception.IncompatiblePeer as error:
            if self._unfit is not None:
                raise NotFitError(self._unfit.message, hint=self._unfit.hint) from error
            raise NotFitError(f"{self._name}: {self._where}: {plain(str(error))}", hint=USE_OPENSSH) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._failed(wire, error) from error
        if not wire.initial_kex_done:
            raise self._mute() if not wire.remote_version else self._slow()

    def _failed(self, wire: Wire, error: Exception) -> Exception:
        if self.deadline.left_s <= 0:
            return self._slow() if wire.remote_version else self._mute()
        if not wire.remote_version:
            if self._word:
                return NotFitError(
                    f"{self._name}: {self._where} is no SSH server: it begins with “{self._word}”",
                    hint="is the port right?",
                )
            return _BusyError("")
        why = f": {wire.farewell}" if wire.farewell else f": {plain(str(error))}" if str(error) else ""
        return NotFitError(
            f"{self._name}: {self._where} broke off during the key exchange{why}",
            hint=f"its own log (journalctl -u ssh, /var/log/auth.log) says why; {USE_OPENSSH} perhaps",
        )

    def _slow(self) -> NotFitError:
        return NotFitError(
            f"{self._name}: {self._where} has not finished the key exchange within {self.deadline.seconds:g} s",
            hint="a slow machine or line needs a higher `timeouts.connect`; a link that drops large packets needs a "
            "smaller MTU",
        )


class _Turn:
    """The turn of an attempt, held while it lasts."""

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt, self._turn = attempt, attempt.turn

    def __enter__(self) -> None:
        self._attempt.wait_for_turn(self._turn)

    def __exit__(self, *_: object) -> None:
        self._turn.release()


def _algorithms(kind: str) -> tuple[str, ...]:
    """What a host is asked for to show a key of this type."""
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
