"""Where chaos happens: hosts with a lab's means to hurt them, and a launcher in front of them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.plan import Ground, History
from tests.integration.harness import Launcher, launcher_in
from tests.lab.hosts import SshHost, SshHosts, why_no_sshd
from tests.lab.netns import NetHost, netns_hosts, why_no_netns
from tests.lab.sshd import sshd_hosts

JOB = Path(__file__).with_name("job")
LAB = 4  # hosts that there are
DISK = "160m"  # of a host, and of home: small enough to be filled in a moment, with room for what 64 MiB are kept for
SPEC = """\
name: {name}
hosts:
{hosts}host_defaults:
  threads: 1
  env: {{CHAOS_WITNESS: {witness}, TF_CPP_MIN_LOG_LEVEL: "2"}}
train: {{dataset: "numbered:load", epochs: {epochs}, batch_size: 256, seed: 7}}
checkpoint: {{every: {every}, keep: 3}}
restart: {{max: {restarts}, per: 3 min, backoff: 0.2 s}}
timeouts: {{connect: 6 s, start: 60 s, stall: 25 s, host: 3 s, checkpoint: 20 s, stop: 3 s, lease: {lease} s}}
"""


def best_ground() -> Ground:
    """The kind of hosts that there can be here, with the most means to hurt them."""
    return "sshd" if why_no_netns() else "net"


def why_none(ground: Ground) -> str:
    """Why there can be no such hosts here; empty if there can."""
    if ground == "local":
        return ""
    return why_no_netns() if ground == "net" else why_no_sshd()


@dataclass
class Scene:
    """One run's place: its hosts by their names in the spec, and where everything of it lies on this machine."""

    launcher: Launcher
    history: History
    hosts: dict[str, SshHost | None]  # None: this machine
    witness: Path
    here: str  # this machine's address, as hosts of a network see it

    @property
    def names(self) -> list[str]:
        return list(self.hosts)

    @property
    def run(self) -> Path:
        """The run's folder at home, once there is one."""
        return self.launcher.newest()

    def room(self, name: str) -> Path:
        """The run's folder on a host; that at home, if the host is this machine."""
        host = self.hosts[name]
        return self.run / "hosts" / name if host is None else host.home / "launcher-work" / self.run.name / name

    def net(self, name: str) -> NetHost:
        host = self.hosts[name]
        assert isinstance(host, NetHost)
        return host

    def spec(self, every: str = "10 steps") -> Path:
        """The spec and the job beside it, written."""
        folder = self.launcher.folder / self.history.name
        shutil.copytree(JOB, folder, dirs_exist_ok=True)
        lines = "".join(f"  - {{{self._line(name, place)}}}\n" for place, name in enumerate(self.hosts))
        path = folder / "cluster.yaml"
        path.write_text(
            SPEC.format(
                name=self.history.name,
                hosts=lines,
                witness=self.witness,
                epochs=self.history.epochs,
                every=every,
                restarts=self.history.restarts,
                lease=self.history.lease_s,
            )
        )
        return path

    def _line(self, name: str, place: int) -> str:
        host = self.hosts[name]
        ports = f"ports: {20000 + 100 * place}-{20099 + 100 * place}"
        if host is None:
            return f"name: {name}, local: true, {ports}"
        way = f"{{host: {host.address}, port: {host.port}, user: {host.user}, key: {host.key}}}"
        return f"name: {name}, ssh: {way}, host_keys: '{host.fingerprint}', python: {sys.executable}, {ports}"


@dataclass
class Grounds:
    """A launcher and a lab, for one history after another."""

    launcher: Launcher
    lab: SshHosts | None
    here: str

    def scene(self, history: History) -> Scene:
        witness = self.launcher.folder / f"witness-{history.name}"
        shutil.rmtree(witness, ignore_errors=True)
        witness.mkdir(mode=0o700)
        hosts: dict[str, SshHost | None] = {}
        for place in history.hosts:
            if history.ground == "local" or self.lab is None:
                hosts["abcdefgh"[place]] = None
            else:
                hosts[self.lab[place].name] = self.lab[place]
        return Scene(self.launcher, history, hosts, witness, self.here)

    def sweep(self, scene: Scene) -> None:
        """Remove what a history has left, so that disks have room for the next."""
        name = scene.run.name
        for host in scene.hosts.values():
            if host is not None:
                shutil.rmtree(host.home / "launcher-work" / name, ignore_errors=True)
        shutil.rmtree(scene.run, ignore_errors=True)
        shutil.rmtree(scene.witness, ignore_errors=True)


@contextlib.contextmanager
def grounds_in(folder: Path, far: Ground) -> Iterator[Grounds]:
    """Hosts and a launcher below `folder`; nothing is left at exit. With root, disks are small and can be filled."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lab: SshHosts | None = None
        here = ""
        if far == "net":
            net = stack.enter_context(netns_hosts(folder / "lab", LAB, disk=DISK))
            lab, here = net, net.here
        elif far == "sshd":
            lab = stack.enter_context(sshd_hosts(folder / "lab", LAB))
        runs = folder / "me" / "runs"
        runs.mkdir(mode=0o700, parents=True)
        if not why_no_netns():
            stack.enter_context(_small(runs))
        launcher = stack.enter_context(launcher_in(folder / "me"))
        yield Grounds(launcher, lab, here)


@contextlib.contextmanager
def _small(place: Path) -> Iterator[None]:
    argv = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "chaos", str(place)]
    subprocess.run(argv, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
