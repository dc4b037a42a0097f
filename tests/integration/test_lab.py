"""The lab's own promises: its hosts are real, apart from each other, and gone afterwards."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.integration.harness import wait_for
from tests.lab.sshd import SshHost, sshd_hosts, why_no_sshd

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())


def ssh(host: SshHost, command: str, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
    argv = ["ssh", "-F", str(host.config), "-o", "BatchMode=yes", host.name, command]
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def test_every_host_has_a_home_a_key_and_an_address_of_its_own(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path / "lab", 2) as hosts:
        for host in hosts:
            assert ssh(host, "echo ~").stdout.strip() == str(host.home)
        assert hosts[0].fingerprint != hosts[1].fingerprint
        assert [host.address for host in hosts] == ["127.0.0.2", "127.0.0.3"]


def test_aliases_lead_through_every_jump_host(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path / "lab", 1, jump=2) as hosts:
        assert ssh(hosts[0], "echo there").stdout == "there\n"
        for gate in hosts.gates:
            assert "Accepted publickey" in gate.log.read_text()


@pytest.mark.parametrize("shell", ["bash", "dash", "fish"])
def test_commands_run_under_the_login_shell_that_was_asked_for(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} is installed")
    with sshd_hosts(tmp_path / "lab", 1, shell=shell) as hosts:
        script = {"fish": "test 2 = (count a b)"}.get(shell, "test ab = $(echo ab)")
        assert ssh(hosts[0], script).returncode == 0
        assert Path(ssh(hosts[0], "echo $SHELL").stdout.strip()).name == shell


def test_nothing_that_was_started_on_a_host_outlives_the_lab(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path / "lab", 1) as hosts:
        said = ssh(hosts[0], "setsid env -i sleep 600 >/dev/null 2>&1 </dev/null & echo $!")
        pid = int(said.stdout)
        assert psutil.pid_exists(pid)
        port = hosts[0].port
    assert not psutil.pid_exists(pid)
    assert not [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"]


def test_a_killed_sshd_leaves_what_was_started_alive_and_comes_back_as_itself(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path / "lab", 1) as hosts:
        pid = int(ssh(hosts[0], "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!").stdout)
        hosts[0].kill()
        assert psutil.pid_exists(pid)
        assert ssh(hosts[0], "true").returncode == 255
        hosts[0].start()
        assert ssh(hosts[0], "true").returncode == 0
        hosts[0].crash()
        assert not psutil.pid_exists(pid)


def test_the_lab_goes_even_if_its_owner_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom tests.lab.sshd import sshd_hosts\n"
        "with sshd_hosts(pathlib.Path(sys.argv[1]), 1) as hosts:\n"
        "    print(hosts[0].port, flush=True)\n    sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lab")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert owner.stdout is not None
    port = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()

    def gone() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.2", port), timeout=1):
            return False
        return True

    wait_for(gone, "the end of the sshd of a lab whose owner was killed")
