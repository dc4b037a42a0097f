"""Logging in with keys: which are offered, and what is said when none will do."""

from __future__ import annotations

import queue
import shlex
from collections.abc import Sequence

from launcher.errors import NotFitError
from launcher.hosts.agent import AgentError
from launcher.hosts.dial import Deadline
from launcher.hosts.paramiko_keys import Identity, Keyring
from launcher.hosts.paramiko_userauth import Answer, Said, UserAuth
from launcher.hosts.paramiko_wire import Wire
from launcher.hosts.ssh_config import Target
from launcher.hosts.ssh_options import USE_OPENSSH


class BrokenOffError(NotFitError):
    """The connection ended during the login, without a word about why."""


class _Login:
    def __init__(self, name: str, wire: Wire, target: Target, deadline: Deadline) -> None:
        self._name, self._wire, self._target, self._deadline = name, wire, target, deadline
        self._exchange = UserAuth(wire, target.user)
        self._methods: tuple[str, ...] = ()
        self.notes: list[str] = []
        self.offered: list[str] = []
        self._locked: list[str] = []  # keys that would be taken, if they could be used

    def begin(self) -> None:
        if self._exchange.begin(self._deadline).said is not Said.READY:
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
            self._locked.append(identity.label)
            return False
        public, sign = unlocked
        try:
            answer = self._exchange.prove(public, sign, self._deadline)
        except AgentError as error:
            self.notes.append(str(error))
            return False
        return self._goes_on(answer) and answer.said is Said.IN

    def _goes_on(self, answer: Answer) -> bool:
        """Whether the server wants this key."""
        if answer.said is Said.GONE:
            raise self._broken_off()
        if answer.said is not Said.NO:
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
        if self._locked:
            key = shlex.quote(self._locked[0])
            return NotFitError(
                f"{self._name}: {self._target.place} takes the key {self._locked[0]}, but it cannot be used{notes}",
                hint=f"give it to ssh-agent first: `ssh-add {key}`; or start this on a terminal",
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
