"""From a host of the spec and ~/.ssh/config to where and how a connection is made: a plain value."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.errors import NotFitError
from launcher.hosts.ssh_lines import Setting
from launcher.hosts.ssh_options import USE_OPENSSH, Options, SshConfig, expand, tokens
from launcher.spec.model import HostSpec

MAX_JUMPS = 8
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")

Family = Literal["any", "inet", "inet6"]

# Settings without which a connection would be another one than the user means, and that we cannot follow.
_BEYOND: Mapping[str, frozenset[str]] = {  # the values that ask for nothing
    "proxycommand": frozenset({"none"}),
    "pkcs11provider": frozenset({"none"}),
    "bindaddress": frozenset(),
    "bindinterface": frozenset(),
    "canonicalizehostname": frozenset({"no", "false"}),
    "revokedhostkeys": frozenset({"none"}),
    "knownhostscommand": frozenset({"none"}),
}
# Ways to log in that we have not: told when ours are not enough. What the server would take besides, it says itself.
_OTHER_WAYS = {"certificatefile": "CertificateFile"}


@dataclass(frozen=True)
class Target:
    """One machine to log in on, and over which others. Equal targets can share a connection."""

    alias: str  # the name that was looked up
    address: str
    port: int
    user: str
    keys: tuple[str, ...] = ()  # files of private keys in the order of trying; need not be there
    keys_named: bool = False  # the files were named by someone, they are not just the usual ones
    keys_first: bool = False  # before the other keys of the agent
    identities_only: bool = False  # nothing but `keys`, though the agent may sign for them
    agent: str | None = None  # the socket of the agent
    via: Target | None = None
    known_hosts: tuple[str, ...] = ()  # a new key is added to the first
    global_known_hosts: tuple[str, ...] = ()
    host_key_alias: str | None = None
    hash_known_hosts: bool = False
    connect_timeout_s: float | None = None
    family: Family = "any"
    other_ways: tuple[str, ...] = ()  # logins that the config asks for and only the system's ssh can do

    @property
    def chain(self) -> tuple[Target, ...]:
        """Every machine on the way, the nearest first, itself last."""
        return (*(self.via.chain if self.via else ()), self)

    @property
    def known_as(self) -> str:
        """The name under which known_hosts files have its key."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.address.lower() if self.port == 22 else f"[{self.address.lower()}]:{self.port}"

    @property
    def place(self) -> str:
        """`user@address port N`, for messages."""
        return f"{self.user}@{self.address}" + (f" port {self.port}" if self.port != 22 else "")


def resolve(host: HostSpec, config: SshConfig) -> Target:
    """Where and how `host` is reached. Raises NotFitError, with a hint that names `transport: openssh` where the
    config asks for what only the system's ssh can do."""
    ssh = host.ssh
    if ssh is None:
        raise NotFitError(f"{host.name} is local: it has no address")
    given = {"user": ssh.user, "port": str(ssh.port) if ssh.port else None, "proxyjump": ssh.jump}
    name = (ssh.alias or ssh.host or host.name).removeprefix("[").removesuffix("]")
    try:
        if ssh.key and not Path(ssh.key).expanduser().is_file():
            raise NotFitError(f"the key {ssh.key} is not there", hint="`key:` is a private key's file on this machine")
        return _Resolver(config).target(name, {key: value for key, value in given.items() if value}, key=ssh.key)
    except NotFitError as error:
        raise NotFitError(f"{host.name}: {error.message}", hint=error.hint) from error


class _Resolver:
    def __init__(self, config: SshConfig) -> None:
        self._config = config
        self._me = _login_name()

    def target(
        self, name: str, given: Mapping[str, str], *, key: str | None = None, via: Target | None = None, depth: int = 0
    ) -> Target:
        options = self._config.lookup(name, user=self._me, given=given)
        known = tokens(options)
        if via is None:
            via = self._way(options, known, depth)
        _refuse_beyond(options)
        keys, named = _keys(options, known, key)
        alias = options.get("hostkeyalias")
        home = Path.home() / ".ssh"
        usual = (str(home / "known_hosts"), str(home / "known_hosts2"))
        usual_global = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
        return Target(
            alias=name,
            address=options.host_name,
            port=_number(options, "port", 22, 65535),
            user=options.text("user", self._me),
            keys=keys,
            keys_named=named,
            keys_first=key is not None,
            identities_only=_is_on(options, "identitiesonly"),
            agent=_agent(options, known),
            via=via,
            known_hosts=_files(options, "userknownhostsfile", known, usual),
            global_known_hosts=_files(options, "globalknownhostsfile", known, usual_global),
            host_key_alias=alias.value if alias else None,
            hash_known_hosts=_is_on(options, "hashknownhosts"),
            connect_timeout_s=_connect_timeout(options),
            family=_family(options),
            other_ways=tuple(said for word, said in _OTHER_WAYS.items() if options.text(word, "no").lower() != "no"),
        )

    def _way(self, options: Options, known: Mapping[str, str], depth: int) -> Target | None:
        """The last machine before the target; its own way leads over those before it."""
        jump = options.get("proxyjump")
        if jump is None or jump.value.lower() == "none":
            return None
        if depth >= MAX_JUMPS:
            raise NotFitError(f"{jump.where}: the way to {options.original} has more than {MAX_JUMPS} jumps, or a loop")
        via: Target | None = None
        for hop in ",".join(jump.args).split(","):
            name, given = _hop(expand(jump, known, hop.strip()), jump)
            if via is not None:
                # As with `ssh -J a,b`: only the first hop has a way of its own, the others are reached from hop to hop.
                given["proxyjump"] = "none"
            via = self.target(name, given, via=via, depth=depth + 1)
        return via


def _hop(text: str, jump: Setting) -> tuple[str, dict[str, str]]:
    found = re.fullmatch(
        r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:@/\s]+))(?::(?P<port>\d+))?/?", text
    )
    if not found:
        raise NotFitError(f"{jump.where}: `{text}` is no jump host: [user@]host[:port] was expected")
    given = {key: found[key] for key in ("user", "port") if found[key]}
    return found["six"] or found["name"], given


def _refuse_beyond(options: Options) -> None:
    for key, nothing in _BEYOND.items():
        setting = options.get(key)
        if setting is not None and setting.value.lower() not in nothing:
            word = {"proxycommand": "ProxyCommand", "pkcs11provider": "PKCS11Provider"}.get(key, key)
            raise NotFitError(
                f"{setting.where}: `{word}` is more than the built-in SSH can do for {options.original}",
                hint=USE_OPENSSH,
            )


def _keys(options: Options, known: Mapping[str, str], key: str | None) -> tuple[tuple[str, ...], bool]:
    named = [_path(one, known) for one in options.all("identityfile") if one.value.lower() != "none"]
    if key:
        named.insert(0, str(Path(key).expanduser()))
    if named or options.all("identityfile"):
        return tuple(dict.fromkeys(named)), bool(named)
    return tuple(str(Path.home() / ".ssh" / name) for name in DEFAULT_KEYS), False


def _agent(options: Options, known: Mapping[str, str]) -> str | None:
    usual = os.environ.get("SSH_AUTH_SOCK") or None
    setting = options.get("identityagent")
    if setting is None or setting.value == "SSH_AUTH_SOCK":
        return usual
    if setting.value.lower() == "none":
        return None
    if setting.value.startswith("$") and not setting.value.startswith("${"):
        return os.environ.get(setting.value[1:])
    return _path(setting, known)


def _path(setting: Setting, known: Mapping[str, str], text: str | None = None) -> str:
    path = setting.value if text is None else text

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise NotFitError(f"{setting.where}: the variable {match[1]} is not set")
        return os.environ[match[1]]

    path = re.sub(r"\$\{(\w+)\}", variable, expand(setting, known, path))
    return str(Path(path).expanduser()) if path.startswith("~") else path


def _files(options: Options, key: str, known: Mapping[str, str], usual: tuple[str, ...]) -> tuple[str, ...]:
    setting = options.get(key)
    if setting is None:
        return usual
    return tuple(_path(setting, known, one) for one in setting.args if one.lower() != "none")


def _number(options: Options, key: str, default: int, most: int) -> int:
    setting = options.get(key)
    if setting is None:
        return default
    if not setting.value.isascii() or not setting.value.isdigit() or not 0 < int(setting.value) <= most:
        raise NotFitError(f"{setting.where}: a number from 1 to {most} was expected, found `{setting.value}`")
    return int(setting.value)


def _connect_timeout(options: Options) -> float | None:
    if options.text("connecttimeout", "none").lower() in {"none", "0"}:
        return None
    setting = options.get("connecttimeout")
    assert setting is not None
    parts = re.findall(r"(\d+)([smhdw]?)", setting.value.lower())
    if not parts or "".join(a + b for a, b in parts) != setting.value.lower():
        raise NotFitError(f"{setting.where}: seconds were expected, found `{setting.value}`")
    scale = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    return float(sum(int(count) * scale[unit] for count, unit in parts))


def _is_on(options: Options, key: str) -> bool:
    return options.text(key, "no").lower() in {"yes", "true"}


def _family(options: Options) -> Family:
    family = options.text("addressfamily", "any").lower()
    return "inet" if family == "inet" else "inet6" if family == "inet6" else "any"


def _login_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("USER") or str(os.getuid())
