"""Hosts on this machine, reached by real SSH: an sshd for each on 127.0.0.2, 127.0.0.3 … with a home of its own.

They share this machine's disk, processes and user; `netns` has hosts with a network of their own. No root is needed:
as root, root logs in; as anyone else, that one.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")
USER = pwd.getpwuid(os.getuid()).pw_name


class LabError(Exception):
    """The lab itself is broken; never the fault of what is tried in it."""


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
class SshHost:
    """A host that SSH reaches. What was started on it is ended with the lab, or with `crash`."""

    name: str  # its alias in `config`
    folder: Path
    address: str
    port: int
    key: Path  # the client's private key, which it lets in
    known_hosts: Path  # knows every host of the lab
    config: Path  # an ssh_config with the aliases of all hosts of the lab
    user: str = USER
    enter: tuple[str, ...] = ()  # what runs a command inside it, if that is not simply here
    _keeper: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def log(self) -> Path:
        """What its sshd says."""
        return self.folder / "sshd.log"

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
        """Its name in a known_hosts file."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

    def new_host_key(self) -> None:
        """As after a new installation: its sshd has another key from now on, which `known_hosts` does not know."""
        self.kill()
        make_key(self.folder / "host_key")
        self.start()

    def start(self) -> None:
        """Start its sshd and wait until it answers. Raises LabError, with what sshd said."""
        self._order("start")
        self.wait_until_up()

    def kill(self) -> None:
        """Kill its sshd and every connection; what was started through them lives on."""
        self._order("kill")

    def crash(self) -> None:
        """Kill every process of the host, as when the power fails; its files stay. `start` brings it back."""
        self._order("crash")

    def close(self) -> None:
        """The end of the host and of everything on it. May be called twice."""
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        with contextlib.suppress(OSError):
            keeper.stdin.close()
        try:
            keeper.wait(timeout=15)
        finally:
            keeper.kill()
            keeper.stdout.close()

    def spawn(self, sshd_argv: Sequence[str]) -> None:
        """Start the keeper, which starts nothing yet."""
        # -I -S: it needs the standard library alone, and many hosts start at once.
        argv = [*self.enter, sys.executable, "-I", "-S", str(KEEPER), *sshd_argv]
        with open(self.log, "ab") as log:
            self._keeper = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd="/",
                start_new_session=True,  # a Ctrl-C is for whoever plays with the lab
                env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"},
            )

    def wait_until_up(self, timeout_s: float = 20.0) -> None:
        """Block until something at its port says that it is an SSH server."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._answers():
                return
            if "Cannot bind any address" in self.log.read_text(errors="replace"):
                break
            time.sleep(0.01)
        raise LabError(f"sshd of {self.name} did not come up: {self.log.read_text(errors='replace')[-2000:]}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=2) as found:
            return found.recv(4) == b"SSH-"
        return False

    def _order(self, order: str) -> None:
        if self._keeper is None:
            raise LabError(f"{self.name} is closed")
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write(f"{order}\n")
        self._keeper.stdin.flush()
        if self._keeper.stdout.readline().strip() != order:
            raise LabError(f"the keeper of {self.name} is gone: {self.log.read_text(errors='replace')[-2000:]}")


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


@contextlib.contextmanager
def sshd_hosts(
    folder: Path,
    count: int = 2,
    *,
    jump: int = 0,
    first: int = 2,
    lines: Sequence[str] = (),
    shell: str | None = None,
    banner: str = "",
    greeting: str = "",
    passphrase: str = "",
) -> Iterator[SshHosts]:
    """`count` hosts named h1, h2 … from 127.0.0.`first` on, up and answering; ended with everything on them at exit.

    `jump` hosts, gate1 …, come before them: the aliases of h1 … lead through all of those. `lines` are added to every
    sshd_config (`MaxStartups 10:30:100`). `shell` is a path or a name, found by PATH. Raises LabError.
    """
    reason = why_no_sshd()
    if reason:
        raise LabError(reason)
    setting = Setting(tuple(lines), shell, banner, greeting, passphrase)
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_key(folder / "key", passphrase)
    names = [f"gate{n + 1}" for n in range(int(jump))] + [f"h{n + 1}" for n in range(count)]
    made = [_host(folder, name, f"127.0.0.{first + n}") for n, name in enumerate(names)]
    hosts = SshHosts(folder, made[: int(jump)], made[int(jump) :])
    with contextlib.ExitStack() as stack:
        for host in made:
            stack.callback(host.close)
        for host in made:
            prepare(host, setting)
        write_client(hosts)
        for host in made:
            host.spawn([str(sshd_path()), "-D", "-e", "-f", str(host.folder / "sshd_config")])
        bring_up(made)
        yield hosts


def bring_up(hosts: Sequence[SshHost]) -> None:
    """Start every sshd, then wait for all of them."""
    for host in hosts:
        host._order("start")
    for host in hosts:
        host.wait_until_up()


def _host(folder: Path, name: str, address: str) -> SshHost:
    return SshHost(
        name, folder / name, address, _free_port(address), folder / "key", folder / "known_hosts", folder / "ssh_config"
    )


def _free_port(address: str) -> int:
    """Below the ephemeral ports, so that it is free again when a host that was killed comes back."""
    for port in random.SystemRandom().sample(range(10000, 20000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((address, port))
            return port
    raise LabError(f"no port of {address} is free")


def prepare(host: SshHost, setting: Setting) -> None:
    """Write everything that the host's sshd needs."""
    for folder in (host.folder, host.home):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_key(host.folder / "host_key")
    shutil.copyfile(host.key.with_name(host.key.name + ".pub"), host.authorized_keys)
    shell = _own_shell() if setting.shell is None else _find(setting.shell)
    if setting.greeting:
        _greet(host.home, shell, setting.greeting)
    lines = list(setting.lines)
    if setting.banner:
        (host.folder / "banner").write_text(setting.banner)
        lines.append(f"Banner {_quoted(host.folder / 'banner')}")
    if shell.name != _own_shell().name:
        lines.append(f"ForceCommand exec {_quoted(_login(host.folder, shell))}")
    lines += [
        f"Port {host.port}",
        f"ListenAddress {host.address}",
        f"HostKey {_quoted(host.folder / 'host_key')}",
        f"AuthorizedKeysFile {_quoted(host.authorized_keys)}",
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
        # A home of its own: sshd sets this last, after everything that it knows of the user.
        f'SetEnv "HOME={host.home}"',
    ]
    (host.folder / "sshd_config").write_text("\n".join(lines) + "\n")
    host.log.touch()
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it gives up its rights; made by systemd elsewhere


def _own_shell() -> Path:
    return Path(pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh")


def _find(shell: str) -> Path:
    path = shutil.which(shell)
    if path is None:
        raise LabError(f"no {shell} is installed")
    return Path(path)


def _greet(home: Path, shell: Path, greeting: str) -> None:
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


def _login(folder: Path, shell: Path) -> Path:
    """A script that hands each command to another login shell than the user's own, as sshd would."""
    script = folder / "login"
    script.write_text(
        f'#!/bin/sh\nexport SHELL={shell}\n[ -n "$SSH_ORIGINAL_COMMAND" ] || exec {shell} -l\n'
        f'command=$SSH_ORIGINAL_COMMAND\nunset SSH_ORIGINAL_COMMAND\nexec {shell} -c "$command"\n'
    )
    script.chmod(0o700)
    return script


def _sftp_server() -> str:
    for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"):
        if Path(path).exists():
            return path
    return "internal-sftp"


def _quoted(path: Path) -> str:
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
        f"  IdentityFile {_quoted(hosts.key)}",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {_quoted(hosts.known_hosts)}",
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  IdentityAgent none",
    ]
    hosts.config.write_text("\n".join(text) + "\n")
