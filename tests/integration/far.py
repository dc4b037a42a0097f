"""Runs on hosts over SSH: a launcher, real sshd's on this machine, and specs that name them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.harness import Launcher, launcher_in
from tests.lab.hosts import SshHost
from tests.lab.sshd import sshd_hosts


@dataclass
class Far:
    """A launcher and the hosts that it can reach."""

    launcher: Launcher
    hosts: Sequence[SshHost]

    def spec(self, job: str, *, each: str = "", without: Sequence[str] = (), name: str = "cluster.yaml") -> Path:
        """A spec of all hosts but those `without`; `job` is the rest of it, `each` what stands at every host."""
        folder = self.launcher.folder / "job"
        folder.mkdir(exist_ok=True)
        lines = [self.line(host, place, each) for place, host in enumerate(self.hosts) if host.name not in without]
        path = folder / name
        path.write_text("name: far\nhosts:\n" + "".join(lines) + job)
        return path

    def program(self, source: str, extra: str = "", each: str = "") -> Path:
        """A spec that runs a script of ours on one rank of every host."""
        path = self.spec(f"program: [python3, program.py]\n{extra}", each=each)
        (path.parent / "program.py").write_text(source)
        return path

    @staticmethod
    def line(host: SshHost, place: int, each: str = "") -> str:
        """A host as it stands in a spec. They share this machine's ports, so each has a range of its own."""
        ssh = f"ssh: {{host: {host.address}, port: {host.port}, user: {host.user}, key: {host.key}}}"
        ports = f"ports: {20000 + 100 * place}-{20099 + 100 * place}"
        more = f", {each}" if each else ""
        return (
            f"  - {{name: {host.name}, {ssh}, host_keys: '{host.fingerprint}', python: {sys.executable}, "
            f"{ports}{more}}}\n"
        )


@contextlib.contextmanager
def far_in(folder: Path, count: int = 2, **options: Any) -> Iterator[Far]:
    """Hosts first, so that the launcher's end finds whether anything was left on them. `options`: of `sshd_hosts`."""
    (folder / "hosts").mkdir(parents=True)
    with sshd_hosts(folder / "hosts", count=count, **options) as hosts, launcher_in(folder / "home") as launcher:
        yield Far(launcher, hosts)
