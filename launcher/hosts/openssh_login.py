"""From a host of the spec to the words that the system's ssh is told."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import NotFitError
from launcher.spec.model import Ssh

_PLAIN = re.compile(r"[^\s\x00-\x1f\x7f'\"`$\\;&|<>(){}*?!#-][^\s\x00-\x1f\x7f'\"`$\\;&|<>(){}*?!#]*")
_PIN = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_HOP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:@/]+))(?::(?P<port>\d+))?/?")


@dataclass(frozen=True)
class Login:
    """Where ssh is to log in. Equal ones can share a connection."""

    host: str  # whose it is, in messages
    destination: str  # an alias of ssh's config, or an address
    user: str | None = None
    port: int | None = None
    key: str | None = None
    jump: str | None = None  # None: as ssh's config has it; `none`: no way around
    config: str | None = None  # another file than ~/.ssh/config

    @property
    def options(self) -> list[str]:
        words = ["-F", self.config] if self.config else []
        words += ["-l", self.user] if self.user else []
        words += ["-p", str(self.port)] if self.port else []
        words += ["-i", self.key, "-o", "IdentitiesOnly=yes"] if self.key else []
        return words


def login_of(host: str, ssh: Ssh, config: Path | None) -> Login:
    """Raises NotFitError: a name that is none, or a key that is not there."""
    destination = ssh.alias or ssh.host or ""
    for what, text in (("host", destination), ("user", ssh.user), ("jump host", ssh.jump)):
        if text is not None:
            _refuse_odd(host, what, text)
    key = None
    if ssh.key:
        key = str(Path(ssh.key).expanduser())
        if not Path(key).is_file():
            raise NotFitError(
                f"{host}: the key {ssh.key} is not there", hint="`key:` is a private key's file on this machine"
            )
    destination = destination.removeprefix("[").removesuffix("]")
    return Login(host, destination, ssh.user, ssh.port, key, ssh.jump, str(config) if config else None)


def is_pin(host_keys: str) -> bool:
    return _PIN.fullmatch(host_keys) is not None


def _refuse_odd(host: str, what: str, text: str) -> None:
    # Whatever has a meaning to ssh's command line, its config or a shell is no part of a name.
    if not _PLAIN.fullmatch(text):
        raise NotFitError(f"{host}: {text!r} is no name of a {what}", hint="see `ssh:` of this host in the spec")


@dataclass(frozen=True)
class Settings:
    """What ssh makes of a login, its config read."""

    user: str
    address: str
    port: int
    jump: str | None
    values: Mapping[str, str]

    def connect_s(self, most: float) -> float:
        """What this machine has to let us in: `most`, or the ConnectTimeout of ssh's config, if that is less."""
        said = self.values.get("connecttimeout", "")
        return min(most, float(said)) if said.isdigit() and int(said) else most

    @property
    def place(self) -> str:
        """`user@address port N`, for messages."""
        return f"{self.user}@{self.address}" + (f" port {self.port}" if self.port != 22 else "")


def ssh_program() -> str:
    """Raises NotFitError: there is no ssh here."""
    found = shutil.which("ssh")
    if found is None:
        raise NotFitError(
            "`transport: openssh` needs the system's ssh, and there is none",
            hint="install it (Debian: apt-get install openssh-client), or use `transport: paramiko`",
        )
    return found


def settings_of(login: Login) -> Settings:
    """Ask ssh what its config makes of the login, without connecting. Raises NotFitError: the config is broken."""
    argv = [ssh_program(), *login.options, "-G", "--", login.destination]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFitError(f"{login.host}: ssh does not tell its settings: {error}") from error
    if done.returncode:
        raise NotFitError(
            f"{login.host}: ssh cannot be told to go there: {'; '.join(done.stderr.splitlines())[-500:]}",
            hint=f"try it by hand: {shlex.join(['ssh', *login.options, '--', login.destination])}",
        )
    pairs = (line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    values: dict[str, str] = {}
    for key, value in pairs:
        values.setdefault(key.lower(), value)
    jump = login.jump or values.get("proxyjump")
    return Settings(
        user=values.get("user", ""),
        address=values.get("hostname", login.destination),
        port=int(values["port"]) if values.get("port", "").isdigit() else 22,
        jump=None if jump in (None, "none") else jump,
        values=values,
    )


def gate_of(login: Login, settings: Settings) -> Login | None:
    """The last machine on the way to a login, itself reached over those before it; None if there is none."""
    if settings.jump is None:
        return None
    # As with `ssh -J a,b`: b is reached over a; a alone over whatever ssh's config says of it.
    *before, last = [hop.strip() for hop in settings.jump.split(",")]
    found = _HOP.fullmatch(last)
    if not found or not all(_PLAIN.fullmatch(found[part] or "x") for part in ("user", "six", "name")):
        raise NotFitError(
            f"{login.host}: `{last}` is no jump host: [user@]host[:port] was expected",
            hint="see `jump:` in the spec, or ProxyJump in ssh's config",
        )
    return replace(
        login,
        destination=found["six"] or found["name"],
        user=found["user"],
        port=int(found["port"]) if found["port"] else None,
        key=None,
        jump=",".join(before) or None,
    )
