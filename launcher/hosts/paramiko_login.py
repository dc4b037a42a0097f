"""Logging in with keys: the client's half of RFC 4252.

paramiko's own signs with every key it has before it knows whether the server wants it, and in the transport's thread,
where a hung agent kills the connection. This one asks first, so that no person is asked for anything in vain.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import paramiko
from paramiko.common import (
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_PK_OK,
    MSG_USERAUTH_SUCCESS,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_REQUEST,
)

from launcher.errors import NotFitError
from launcher.hosts.agent import AgentError
from launcher.hosts.dial import Deadline
from launcher.hosts.key_files import PublicHalf
from launcher.hosts.paramiko_keys import Identity, Keyring, Sign
from launcher.hosts.paramiko_wire import Wire, plain
from launcher.hosts.ssh_config import Target
from launcher.hosts.ssh_options import USE_OPENSSH


class BrokenOffError(NotFitError):
    """The connection ended during the login, without a word about why."""


class _Said(Enum):
    READY = "the login may begin"
    WANTED = "this key would do"
    IN = "logged in"
    NO = "not with this"
    GONE = "the connection ended"


@dataclass(frozen=True)
class _Answer:
    said: _Said
    methods: tuple[str, ...] = ()
    partial: bool = False


class _Exchange:
    """Requests and answers. The transport's thread calls what paramiko's AuthHandler has."""

    banner: bytes | None = None

    def __init__(self, wire: Wire, user: str) -> None:
        self._wire, self._user = wire, user
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._in = False
        self._handler_table: dict[int, Callable[[Any], None]] = {
            MSG_SERVICE_ACCEPT: lambda _: self._answers.put(_Answer(_Said.READY)),
            MSG_USERAUTH_PK_OK: lambda _: self._answers.put(_Answer(_Said.WANTED)),
            MSG_USERAUTH_SUCCESS: self._success,
            MSG_USERAUTH_FAILURE: self._failure,
            MSG_USERAUTH_BANNER: lambda _: None,
        }
        wire.auth_handler = self

    def _success(self, _: Any) -> None:
        self._in = True
        self._wire._auth_trigger()
        self._answers.put(_Answer(_Said.IN))

    def _failure(self, message: Any) -> None:
        methods = tuple(plain(method) for method in message.get_list())
        self._answers.put(_Answer(_Said.NO, methods, message.get_boolean()))

    def abort(self) -> None:
        self._answers.put(_Answer(_Said.GONE))

    def is_authenticated(self) -> bool:
        return self._in

    def get_username(self) -> str:
        return self._user

    def ask(self, message: paramiko.Message, deadline: Deadline) -> _Answer:
        """Raises queue.Empty at the deadline."""
        if not self._wire.is_active():
            return _Answer(_Said.GONE)
        try:
            self._wire._send_message(message)
        except (OSError, EOFError, paramiko.SSHException):
            return _Answer(_Said.GONE)
        return self._answers.get(timeout=deadline.left_s)

    def begin(self, deadline: Deadline) -> _Answer:
        message = paramiko.Message()
        message.add_byte(cMSG_SERVICE_REQUEST)
        message.add_string("ssh-userauth")
        return self.ask(message, deadline)

    def would_take(self, public: PublicHalf, deadline: Deadline) -> _Answer:
        return self.ask(self._request(public, False), deadline)

    def prove(self, public: PublicHalf, sign: Sign, deadline: Deadline) -> _Answer:
        signed = paramiko.Message()
        signed.add_string(self._wire.session_id)
        request = self._request(public, True)
        signature = sign(signed.asbytes() + request.asbytes(), self._algorithm(public.type))
        request.add_string(signature)
        return self.ask(request, deadline)

    def _request(self, public: PublicHalf, signed: bool) -> paramiko.Message:
        message = paramiko.Message()
        message.add_byte(cMSG_USERAUTH_REQUEST)
        message.add_string(self._user)
        message.add_string("ssh-connection")
        message.add_string("publickey")
        message.add_boolean(signed)
        message.add_string(self._algorithm(public.type))
        message.add_string(public.blob)
        return message

    def _algorithm(self, kind: str) -> str:
        """How a key of this type signs: for RSA the type does not say it."""
        if not kind.startswith("ssh-rsa"):
            return kind
        takes = self._wire.server_extensions.get("server-sig-algs", b"").decode("ascii", "replace").split(",")
        best = "rsa-sha2-256" if "rsa-sha2-512" not in takes and "rsa-sha2-256" in takes else "rsa-sha2-512"
        return kind.replace("ssh-rsa", best)


class _Login:
    def __init__(self, name: str, wire: Wire, target: Target, deadline: Deadline) -> None:
        self._name, self._wire, self._target, self._deadline = name, wire, target, deadline
        self._exchange = _Exchange(wire, target.user)
        self._methods: tuple[str, ...] = ()
        self.notes: list[str] = []
        self.offered: list[str] = []

    def begin(self) -> None:
        if self._exchange.begin(self._deadline).said is not _Said.READY:
            raise self._broken_off()

    def offer(self, identity: Identity) -> bool:
        """Whether we are in. Raises NotFitError if it makes no sense to go on."""
        self.offered.append(identity.shown)
        if identity.ask_server_first and identity.public is not None:
            answer = self._exchange.would_take(identity.public, self._deadline)
            if not self._goes_on(answer):
                return False
        unlocked = identity.unlock()
        if unlocked is None:
            return False
        public, sign = unlocked
        try:
            answer = self._exchange.prove(public, sign, self._deadline)
        except AgentError as error:
            self.notes.append(str(error))
            return False
        return self._goes_on(answer) and answer.said is _Said.IN

    def _goes_on(self, answer: _Answer) -> bool:
        """Whether the server wants this key."""
        if answer.said is _Said.GONE:
            raise self._broken_off()
        if answer.said is not _Said.NO:
            return True
        self._methods = answer.methods
        if answer.partial:
            raise NotFitError(
                f"{self._name}: {self._target.place} takes the key and wants more: {', '.join(answer.methods)}",
                hint=f"a second factor needs a person at the terminal: {USE_OPENSSH}",
            )
        if "publickey" not in answer.methods:
            raise NotFitError(
                f"{self._name}: {self._target.place} takes no keys, only {', '.join(answer.methods) or 'nothing'}",
                hint=f"let sshd take keys (PubkeyAuthentication yes) for this user; or {USE_OPENSSH}",
            )
        return False

    def _broken_off(self) -> NotFitError:
        said = self._wire.farewell
        if "too many authentication failures" in said.lower():
            return NotFitError(
                f"{self._name}: {self._target.place} hung up after {len(self.offered)} keys: {said} "
                f"(offered: {'; '.join(self.offered)})",
                hint="name the right one: `key:` in the spec, or IdentityFile with IdentitiesOnly in ~/.ssh/config",
            )
        return BrokenOffError(
            f"{self._name}: {self._target.place} hung up during the login" + (f": {said}" if said else ""),
            hint="its own log (journalctl -u ssh, /var/log/auth.log) says why",
        )

    def refused(self) -> NotFitError:
        notes = f". {'; '.join(dict.fromkeys(self.notes))}" if self.notes else ""
        if not self.offered:
            return NotFitError(
                f"{self._name}: there is no key to log in with as {self._target.place}{notes}",
                hint="`ssh-keygen -t ed25519` makes one, `ssh-copy-id` brings it there; or name one with `key:`",
            )
        return NotFitError(
            f"{self._name}: {self._target.place} takes none of our keys. Offered: {'; '.join(self.offered)}; "
            f"it takes: {', '.join(self._methods) or 'nothing'}{notes}",
            hint=self._advice(),
        )

    def _advice(self) -> str:
        target = self._target
        port = f"-p {target.port} " if target.port != 22 else ""
        advice = f"is the user right? `ssh-copy-id {port}{target.user}@{target.address}` brings a key there"
        others = [*target.other_ways, *(way for way in self._methods if way not in {"publickey", "none"})]
        return advice + (f"; for {', '.join(dict.fromkeys(others))}: {USE_OPENSSH}" if others else "")


def log_in(name: str, wire: Wire, target: Target, keyring: Keyring, deadline: Deadline) -> None:
    """Prove to be `target.user`. Blocks up to the deadline, which stands still while a person is asked.

    Raises NotFitError; BrokenOffError if the connection ended without a reason, and may be tried again.
    """
    login = _Login(name, wire, target, deadline)
    try:
        login.begin()
        with keyring.identities(target, deadline, login.notes) as identities:
            if _first_that_fits(login, identities):
                return
    except queue.Empty:
        notes = f". {'; '.join(dict.fromkeys(login.notes))}" if login.notes else ""
        raise NotFitError(
            f"{name}: {target.place} has not let us in within {deadline.seconds:g} s{notes}",
            hint="a slow login (DNS, PAM, a home on NFS) needs a higher `timeouts.connect`",
        ) from None
    raise login.refused()


def _first_that_fits(login: _Login, identities: Sequence[Identity]) -> bool:
    return any(login.offer(identity) for identity in identities)
