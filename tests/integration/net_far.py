"""Runs that cross real networks: a launcher on this machine, and hosts in namespaces with addresses of their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.integration.harness import Launcher, launcher_in, wait_for
from tests.lab.netns import NetHost, NetHosts, netns_hosts

PORTS = "20000-20099"  # each host's: they share no port


@dataclass
class NetFar:
    """A launcher whose `~/.ssh/config` knows the hosts by their names, and the hosts."""

    launcher: Launcher
    hosts: NetHosts

    def host(self, name: str) -> NetHost:
        return next(self.hosts.host(n) for n, host in enumerate(self.hosts) if host.name == name)

    def spec(
        self, job: str, *names: str, each: str = "", file: str = "cluster.yaml", version: int = 4, name: str = "far"
    ) -> Path:
        """A spec of these hosts (of all, without a name); `job` is the rest of it, `each` what stands at every host."""
        folder = self.launcher.folder / "job"
        folder.mkdir(exist_ok=True)
        lines = [self.line(host, each, version) for host in self._named(names)]
        path = folder / file
        path.write_text(f"name: {name}\nhosts:\n" + "".join(f"  - {line}\n" for line in lines) + job)
        return path

    def line(self, host: NetHost, each: str = "", version: int = 4) -> str:
        """A host as it stands in a spec: by its alias, or by its IPv6 address and with its workers' in IPv6, too."""
        way = f"ssh: {host.name}"
        if version == 6:
            gate = f", jump: {self.hosts.gates[0].name}" if self.hosts.gates else ""
            way = f"ssh: {{host: '{host.address6}'{gate}}}, address: '{host.address6}', host_keys: '{host.fingerprint}'"
        keys = (f"name: {host.name}", way, f"python: {sys.executable}", f"ports: {PORTS}", each)
        return "{" + ", ".join(key for key in keys if key) + "}"

    def program(self, source: str, *names: str, extra: str = "", each: str = "") -> Path:
        """A spec that runs a script of ours on one rank of each of these hosts."""
        path = self.spec(f"program: [python3, program.py]\n{extra}", *names, each=each)
        (path.parent / "program.py").write_text(source)
        return path

    def trains(self, spec: Path) -> tuple[subprocess.Popen[bytes], Path]:
        """`up` in the background, and the run's folder, once all its ranks are training."""
        view = self.launcher.start("up", str(spec), "--plain")
        run = self.launcher.newest()

        def training() -> bool:
            assert view.poll() is None, self.told()
            return any(event.get("state") == "training" for event in self.launcher.events(run, None))

        wait_for(training, "training", 90)
        return view, run

    def told(self) -> str:
        """What the first command in the background has printed."""
        return (self.launcher.folder / "command-0.log").read_text(errors="replace")

    def unreachable(self) -> list[str]:
        """Hosts of which `status` says that their link is lost; fails if the run is over."""
        status = self.launcher.json("status")
        assert status["exit_code"] is None, self.told()
        return sorted(one["host"] for one in status["unreachable"])

    def there(self, name: str) -> Path:
        """The newest run's folder on a host, as this machine sees it."""

        def found() -> Path | None:
            return next((self.host(name).home / "launcher-work").glob(f"{self.launcher.newest().name}/{name}"), None)

        return wait_for(found, f"the run's folder on {name}")

    def left(self, *names: str) -> list[str]:
        """What runs on these hosts (on all, and the gates, without a name), sshd's own processes left out."""
        found = []
        for host in self._named(names) if names else (*self.hosts, *self.hosts.gates):
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(host.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        words = " ".join(process.cmdline())
                        if words and process.name() != "sshd":
                            found.append(f"{host.name}: {words[:200]}")
        return found

    def gone(self, *names: str, timeout_s: float = 30.0) -> None:
        """Waits until nothing runs there any more."""
        deadline = time.monotonic() + timeout_s
        while left := self.left(*names):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)

    def _named(self, names: Sequence[str]) -> list[NetHost]:
        return [self.host(name) for name in names or [host.name for host in self.hosts]]


@contextlib.contextmanager
def net_far_in(folder: Path, count: int = 2, *, jump: bool = False) -> Iterator[NetFar]:
    """Hosts first, so that the launcher's end finds whether anything was left on them."""
    with netns_hosts(folder / "lab", count, jump=jump) as hosts, launcher_in(folder / "me") as launcher:
        (launcher.folder / ".ssh").mkdir(mode=0o700)
        (launcher.folder / ".ssh" / "config").write_text(f"Include {hosts.config}\n")
        launcher.env["HOME"] = str(launcher.folder)
        yield NetFar(launcher, hosts)
