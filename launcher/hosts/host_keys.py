"""Whether a host is the one that is meant: its key against known_hosts, or against a fingerprint of the spec."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from launcher.errors import NotFitError
from launcher.hosts import known_hosts
from launcher.hosts.known_hosts import Entry, HostKey
from launcher.hosts.ssh_config import Target
from launcher.hosts.ssh_options import USE_OPENSSH

KNOWN, ACCEPT_NEW = "known", "accept-new"
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")


class NotThePinnedKeyError(NotFitError):
    """The host's key is not the one whose fingerprint is pinned; it may have another one that is."""


def is_rule(text: str) -> bool:
    """Whether `host_keys:` may say so."""
    return text in {KNOWN, ACCEPT_NEW} or _FINGERPRINT.fullmatch(text) is not None


class KeyCheck:
    """The rule for one host: what it is known by, and what is done about a key that it shows."""

    def __init__(self, name: str, target: Target, rule: str, say: Callable[[str], None]) -> None:
        """`name` is the host's in messages. Reads the known_hosts files. Raises NotFitError on a rule that is none."""
        if not is_rule(rule):
            raise NotFitError(
                f"{name}: `host_keys: {rule}` is not understood",
                hint=f"`{KNOWN}`, `{ACCEPT_NEW}` or a fingerprint (SHA256:…) were expected",
            )
        self._name, self._target, self._rule, self._say = name, target, rule, say
        self._entries = known_hosts.read((*target.known_hosts, *target.global_known_hosts))
        self._known = self._of(target.known_as)

    def _of(self, name: str, marker: str = "") -> list[Entry]:
        return [entry for entry in self._entries if entry.marker == marker and entry.speaks_of(name)]

    @property
    def pinned(self) -> str:
        """The fingerprint that the spec names, or nothing."""
        return "" if self._rule in {KNOWN, ACCEPT_NEW} else self._rule.rstrip("=")

    @property
    def types(self) -> list[str]:
        """The types of key by which the host is known: it should be asked for these first."""
        entries = self._known or self._without_port()
        if self.pinned:
            entries = [entry for entry in entries if entry.key.fingerprint == self.pinned]
        return list(dict.fromkeys(entry.key.type for entry in entries))

    def judge(self, key: HostKey) -> None:
        """Return if the key is to be trusted; a new one is written down first if that is the rule.

        Raises NotFitError: unknown, changed, revoked; NotThePinnedKeyError.
        """
        self._refuse_revoked(key)
        if self.pinned:
            if key.fingerprint != self.pinned:
                raise NotThePinnedKeyError(
                    f"{self._name}: it shows {_shown(key)}, and pinned is {self.pinned}",
                    hint="if the host was set up anew, pin its new fingerprint; "
                    "otherwise someone may be listening in: do not go on",
                )
            return
        if any(entry.key == key for entry in self._known or self._without_port()):
            return
        if self._known:
            raise self._changed(key)
        if self._rule == ACCEPT_NEW:
            self._write_down(key)
            return
        raise self._unknown(key)

    def _without_port(self) -> list[Entry]:
        """As with ssh, a key known for the name without a port is good for all its ports."""
        target = self._target
        return [] if target.host_key_alias or target.port == 22 else self._of(target.address.lower())

    def _refuse_revoked(self, key: HostKey) -> None:
        names = {self._target.known_as, self._target.address.lower()}
        for entry in self._entries:
            if entry.marker == "@revoked" and entry.key == key and any(entry.speaks_of(name) for name in names):
                raise NotFitError(
                    f"{self._name}: its key {_shown(key)} is revoked by {entry.where}",
                    hint="do not use this host before whoever runs it has given it a new key",
                )

    def _changed(self, key: HostKey) -> NotFitError:
        same = [entry for entry in self._known if entry.key.type == key.type]
        was = "; ".join(f"{_shown(entry.key)} in {entry.where}" for entry in same or self._known)
        file = (same or self._known)[0].where.rpartition(":")[0]
        return NotFitError(
            f"{self._name}: the key of {self._target.known_as} is another one than before. Known: {was}. "
            f"Shown now: {_shown(key)}",
            hint="either the host was set up anew, or someone is listening in. Ask who runs it for its fingerprint, "
            f"and if that is the new one: ssh-keygen -R {shlex.quote(self._target.known_as)} -f {shlex.quote(file)}",
        )

    def _unknown(self, key: HostKey) -> NotFitError:
        target = self._target
        file = target.known_hosts[0] if target.known_hosts else "~/.ssh/known_hosts"
        if self._of(target.known_as, "@cert-authority") and not target.host_key_alias:
            return NotFitError(
                f"{self._name}: {target.known_as} is known by a certificate authority only, and the built-in SSH "
                f"checks no host certificates. Its key is {_shown(key)}",
                hint=f"{USE_OPENSSH}; or add the line `{target.known_as} {key.line}` to {file}",
            )
        return NotFitError(
            f"{self._name}: {target.known_as} is not known yet. It shows {_shown(key)}",
            hint=f"if `ssh-keygen -lf /etc/ssh/ssh_host_{_kind(key)}_key.pub` says the same there: {self._scan(file)}"
            f"add the line `{target.known_as} {key.line}` to {file}, or pin it: `host_keys: {key.fingerprint}`; "
            f"or take every new host at its word: `host_keys: {ACCEPT_NEW}`",
        )

    def _scan(self, file: str) -> str:
        """A command that adds the key; it knows no ways around corners."""
        target = self._target
        if target.via or target.host_key_alias:
            return ""
        port = f"-p {target.port} " if target.port != 22 else ""
        return f"`ssh-keyscan {port}{shlex.quote(target.address)} >> {shlex.quote(file)}`, or "

    def _write_down(self, key: HostKey) -> None:
        target = self._target
        if not target.known_hosts:
            raise NotFitError(
                f"{self._name}: its key {_shown(key)} is new, and there is no file to keep it in",
                hint=f"`UserKnownHostsFile` is none; pin the key instead: `host_keys: {key.fingerprint}`",
            )
        try:
            known_hosts.add(target.known_hosts[0], target.known_as, key, hashed=target.hash_known_hosts)
        except OSError as error:
            raise NotFitError(
                f"{self._name}: its key {_shown(key)} is new, and cannot be added to {target.known_hosts[0]}: "
                f"{error.strerror}",
                hint=f"make the file writable, or pin the key: `host_keys: {key.fingerprint}`",
            ) from error
        # Another thread, or another program, may have written a different key a moment before.
        self._entries = known_hosts.read((*target.known_hosts, *target.global_known_hosts))
        self._known = self._of(target.known_as)
        if self._known and not any(entry.key == key for entry in self._known):
            raise self._changed(key)
        self._say(f"{self._name}: new host key {_shown(key)} added to {target.known_hosts[0]}")


def _shown(key: HostKey) -> str:
    return f"{key.type} {key.fingerprint}"


def _kind(key: HostKey) -> str:
    return "ed25519" if "ed25519" in key.type else "ecdsa" if "ecdsa" in key.type else "rsa"
