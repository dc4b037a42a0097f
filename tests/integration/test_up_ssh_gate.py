"""Many hosts behind one jump host whose sshd takes few logins at a time, as it comes out of the box."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Launcher, launcher_in
from tests.lab.hosts import why_no_sshd
from tests.lab.sshd import sshd_hosts

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())

HOSTS = 16


@pytest.fixture
def behind_a_gate(tmp_path: Path) -> Iterator[tuple[Launcher, Path]]:
    """A launcher, and a spec of the hosts by their aliases, which lead through the gate."""
    with (
        sshd_hosts(tmp_path / "hosts", HOSTS, jump=1, lines=["MaxStartups 10:30:100"]) as hosts,
        launcher_in(tmp_path / "home") as launcher,
    ):
        config = launcher.folder / ".ssh" / "config"
        config.parent.mkdir(mode=0o700)
        config.write_text(f"Include {hosts.config}\n")
        launcher.env["HOME"] = str(launcher.folder)
        lines = [
            f"  - {{name: {host.name}, ssh: {host.name}, ports: {20000 + 20 * n}-{20019 + 20 * n}}}\n"
            for n, host in enumerate(hosts)
        ]
        more = f"host_defaults: {{python: {sys.executable}, gpus: 0, threads: 1}}\ntrain: {{batch_size: 64}}\n"
        yield launcher, launcher.spec("name: many\nhosts:\n" + "".join(lines) + more)


def check_in_turn(launcher: Launcher, spec: Path, count: int) -> None:
    for _ in range(count):
        done = launcher.run("check", str(spec), timeout_s=120)
        assert f"h{HOSTS}" in done.stdout


def test_sixteen_hosts_behind_one_gate_are_checked_in_turn_without_a_failure(
    behind_a_gate: tuple[Launcher, Path],
) -> None:
    check_in_turn(*behind_a_gate, 3)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_sixteen_hosts_behind_one_gate_are_checked_twenty_times(behind_a_gate: tuple[Launcher, Path]) -> None:
    check_in_turn(*behind_a_gate, 20)
