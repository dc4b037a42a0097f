"""Hosts that SSH reaches, whatever they are made of, and the files of whoever reaches them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.machine import LabError, Machine

USER = pwd.getpwuid(os.getuid()).pw_name


def why_no_sshd() -> str:
    """Why there can be no hosts here; empty if there can. For skips."""
    if sshd_path() is None:
        return "no sshd is installed (Debian: apt-get install openssh-server)"
    if shutil.which("ssh-keygen") is None:
        return "no ssh-keygen is installed (Debian: apt-get install openssh-client)"
    return ""


def sshd_path() -> str | None:
    """Where sshd is: it must be called by its full path."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> str:
    """A new key pair at `path` and `path`.pub, in place of any that is there; returns the public line."""
    for old in (path, path.with_name(path.name + ".pub")):
        old.unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path.with_name(path.name + ".pub").read_text().strip()


def fingerprint(public: Path) -> str:
    """`SHA256:…` of a public key file."""
    argv = ["ssh-keygen", "-l", "-f", str(public)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]


@dataclass
class SshHost(Machine):
    """A host that SSH reaches."""

    address: str
    port: int
    key: Path  # the client's private key, which it lets in
    known_hosts: Path  # knows every host of the lab
    config: Path  # an ssh_config with the aliases of all hosts of the lab; this one's is its name
    user: str = USER
    address6: str = ""  # if it has an IPv6 address, too
    _read: int = field(default=0, repr=False)  # how much of the log was there before the last start

    @property
    def home(self) -> Path:
        """Its home, as this machine sees it."""
        return self.folder / "home"

    @property
    def authorized_keys(self) -> Path:
        return self.folder / "authorized_keys"

    @property
    def host_key(self) -> str:
        """Its public key, `ssh-ed25519 AAAA…`."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.folder / "host_key.pub")

    @property
    def known_as(self) -> str:
        """Its names in a known_hosts file."""
        addresses = [address for address in (self.address, self.address6) if address]
        return ",".join(address if self.port == 22 else f"[{address}]:{self.port}" for address in addresses)

    def new_host_key(self) -> None:
        """As after a new installation: its sshd has another key from now on, which `known_hosts` does not know."""
        self.kill()
        make_key(self.folder / "host_key")
        self.start()

    def start(self) -> None:
        """Start its sshd and wait until it listens. Raises LabError, with what sshd said."""
        self.begin()
        self.wait_until_up()

    def kill(self) -> None:
        """Kill its sshd and every connection; what was started through them lives on."""
        self.order("kill")

    def crash(self) -> None:
        """Kill every process of the host, as when the power fails; its files stay. `start` brings it back."""
        self.order("crash")

    def begin(self) -> None:
        """Start its sshd, without waiting."""
        self._read = self.log.stat().st_size
        self.order("start")

    def wait_until_up(self, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        said = ""
        while time.monotonic() < deadline:
            said = self.log.read_bytes()[self._read :].decode("utf-8", "replace")
            if "Server listening on" in said:
                return
            if "Cannot bind any address" in said or "Bad configuration" in said:
                break
            time.sleep(0.005)
        raise LabError(f"sshd of {self.name} did not come up: {said[-2000:]}")


class SshHosts(list[SshHost]):
    """The hosts h1, h2 …; `gates` are the jump hosts in front of them, the outermost first."""

    def __init__(self, folder: Path, gates: Sequence[SshHost], hosts: Sequence[SshHost]) -> None:
        super().__init__(hosts)
        self.folder = folder
        self.gates = tuple(gates)

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def key(self) -> Path:
        return self.folder / "key"


@dataclass(frozen=True)
class Setting:
    """How the hosts of a lab are set up."""

    lines: tuple[str, ...] = ()  # of sshd_config, before ours: the first word on a matter holds
    shell: str | None = None  # the login shell, if not the user's own
    banner: str = ""  # what sshd says before the login
    greeting: str = ""  # what the login files print, into every command's output
    passphrase: str = ""  # of the client's key


def sshd_argv(host: SshHost) -> list[str]:
    return [str(sshd_path()), "-D", "-e", "-f", str(host.folder / "sshd_config")]


def bring_up(hosts: Sequence[SshHost]) -> None:
    """Start every sshd, then wait for all of them."""
    for host in hosts:
        host.begin()
    for host in hosts:
        host.wait_until_up()


def prepare(host: SshHost, setting: Setting, lines: Sequence[str]) -> None:
    """Write everything that the host's sshd needs; `lines` of its sshd_config tell who logs in, and to what."""
    for folder in (host.folder, host.home):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_key(host.folder / "host_key")
    shutil.copyfile(host.key.with_name(host.key.name + ".pub"), host.authorized_keys)
    banner = []
    if setting.banner:
        (host.folder / "banner").write_text(setting.banner)
        banner = [f"Banner {quoted(host.folder / 'banner')}"]
    text = [
        *setting.lines,
        *banner,
        *lines,
        f"Port {host.port}",
        *(f"ListenAddress {address}" for address in (host.address, host.address6) if address),
        f"HostKey {quoted(host.folder / 'host_key')}",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "PermitUserRC no",
        "PrintMotd no",
        "LogLevel VERBOSE",
        f"Subsystem sftp {_sftp_server()}",
    ]
    (host.folder / "sshd_config").write_text("\n".join(text) + "\n")
    host.log.touch()
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it gives up its rights; made by systemd elsewhere


def own_shell() -> Path:
    """The login shell of whoever runs the lab."""
    return Path(pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh")


def find_shell(shell: str) -> Path:
    """Raises LabError if it is not installed."""
    path = shutil.which(shell)
    if path is None:
        raise LabError(f"no {shell} is installed")
    return Path(path)


def greet(home: Path, shell: Path, greeting: str) -> None:
    """A login file that prints. bash reads its own under sshd, terminal or not; dash has none for commands."""
    if shell.name == "bash":
        words = greeting.replace("'", "'\\''")
        (home / ".bashrc").write_text(f"printf '%s\\n' '{words}'\n")
    elif shell.name == "fish":
        words = greeting.replace("\\", "\\\\").replace("'", "\\'")
        (home / ".config" / "fish").mkdir(parents=True, exist_ok=True)
        (home / ".config" / "fish" / "config.fish").write_text(f"echo '{words}'\n")
    else:
        raise LabError(f"{shell.name} has no login file that prints")


def _sftp_server() -> str:
    for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"):
        if Path(path).exists():
            return path
    return "internal-sftp"


def quoted(path: Path) -> str:
    """A path as a word of a configuration file."""
    return f'"{path}"' if " " in str(path) else str(path)


def write_client(hosts: SshHosts) -> None:
    """known_hosts and ssh_config of whoever plays with the hosts."""
    everyone = [*hosts.gates, *hosts]
    hosts.known_hosts.write_text("".join(f"{host.known_as} {host.host_key}\n" for host in everyone))
    text = []
    for n, host in enumerate(everyone):
        text += [f"Host {host.name}", f"  HostName {host.address}", f"  Port {host.port}"]
        before = everyone[:n][-1:] if host in hosts.gates else list(hosts.gates[-1:])
        text += [f"  ProxyJump {gate.name}" for gate in before]
    text += [
        "Host *",  # an address given in full needs these, too
        f"  User {USER}",
        f"  IdentityFile {quoted(hosts.key)}",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {quoted(hosts.known_hosts)}",
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  IdentityAgent none",
    ]
    hosts.config.write_text("\n".join(text) + "\n")
