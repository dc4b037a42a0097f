"""The lab's hosts with a network of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.harness import wait_for
from tests.integration.test_lab import ssh
from tests.lab.netns import HOME, NetHosts, netns_hosts, why_no_netns
from tests.lab.relay import Relay, black_hole, relayed
from tests.lab.sshd import sshd_hosts

needs_netns = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())


@pytest.fixture
def two(tmp_path: Path) -> Iterator[NetHosts]:
    with netns_hosts(tmp_path / "lab", 2) as hosts:
        yield hosts


def reachable(hosts: NetHosts, n: int, timeout_s: float = 0.5) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((hosts[n].address, 22), timeout=timeout_s) as found:
        return found.recv(4) == b"SSH-"
    return False


@needs_netns
def test_hosts_share_nothing_by_name_and_reach_each_other_by_address(two: NetHosts) -> None:
    identities = []
    for host in two:
        said = ssh(host, "echo ~; pwd; hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id")
        home, here, name, machine, boot = said.stdout.split()
        assert (home, here, name) == (HOME, HOME, host.name)
        identities.append((machine, boot))
    assert not set(identities[0]) & set(identities[1])
    ssh(two[0], "echo mine > ~/file")
    assert (two[0].home / "file").read_text() == "mine\n"
    assert ssh(two[1], f"ls ~ {two[0].folder}").stdout.split() == [f"{HOME}:", f"{two[0].folder}:"]
    said = ssh(two[0], f"exec 3<>/dev/tcp/{two[1].address}/22; head -c 4 <&3")
    assert said.stdout == "SSH-"


@needs_netns
def test_the_same_port_is_free_on_every_host(two: NetHosts) -> None:
    script = "import socket,sys; s=socket.create_server(('', 20000)); print('mine', flush=True); sys.stdin.read()"
    with contextlib.ExitStack() as stack:
        for n in range(2):
            argv = two.host(n).command("/usr/bin/python3", "-c", script)
            one = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert one.stdout is not None
            assert one.stdout.readline() == b"mine\n"
            assert one.stdin is not None
            stack.callback(one.stdin.close)


@needs_netns
@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_a_cut_host_answers_nobody_until_it_is_healed(two: NetHosts, direction: str) -> None:
    assert reachable(two, 0)
    two.host(0).cut(direction)  # type: ignore[arg-type]
    assert not reachable(two, 0)
    assert reachable(two, 1)
    two.host(0).heal()
    assert reachable(two, 0)


@needs_netns
def test_one_pair_or_one_port_can_be_blocked(two: NetHosts) -> None:
    probe = f"timeout 0.5 bash -c 'exec 3<>/dev/tcp/{two[1].address}/22'"
    assert ssh(two[0], probe).returncode == 0
    two.host(1).cut("in", peer=two[0].address)
    assert ssh(two[0], probe).returncode == 124
    assert reachable(two, 1)
    two.host(1).heal()
    two.host(1).firewall("22")
    assert ssh(two[0], probe).returncode == 0
    assert ssh(two[0], probe.replace("/22", "/23")).returncode == 124
    two.host(1).heal()
    two.host(1).firewall("22", refuse=True)
    assert ssh(two[0], probe.replace("/22", "/23")).returncode == 1


@needs_netns
def test_a_slow_host_is_slow(two: NetHosts) -> None:
    two.host(0).slow("8mbit")
    began = time.monotonic()
    argv = ["ssh", "-F", str(two.config), "h1", "head -c 2000000 /dev/zero"]
    assert len(subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout) == 2_000_000
    assert time.monotonic() - began > 1.5
    two.host(0).heal()


@needs_netns
def test_a_rebooted_host_has_another_boot_id_and_none_of_its_processes(two: NetHosts) -> None:
    pid = int(ssh(two[0], "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!").stdout)
    before = ssh(two[0], "cat /proc/sys/kernel/random/boot_id").stdout
    two.host(0).reboot()
    assert not psutil.pid_exists(pid)
    assert ssh(two[0], "cat /proc/sys/kernel/random/boot_id").stdout not in ("", before)


@needs_netns
def test_behind_a_gate_hosts_are_reached_through_it_only(tmp_path: Path) -> None:
    with netns_hosts(tmp_path / "lab", 2, jump=True) as hosts:
        assert ssh(hosts[1], "hostname").stdout == "h2\n"
        assert not reachable(hosts, 1)
        hosts.gate.cut()
        with pytest.raises(subprocess.TimeoutExpired):
            ssh(hosts[1], "true", timeout_s=1)


@needs_netns
def test_a_disk_of_its_own_can_be_full(tmp_path: Path) -> None:
    with netns_hosts(tmp_path / "lab", 1, disk="1M") as hosts:
        assert ssh(hosts[0], "head -c 2000000 /dev/zero > ~/file").returncode != 0
        home = hosts[0].home
        assert os.path.ismount(home)
    assert not os.path.ismount(home)


@needs_netns
def test_a_second_user_has_a_home_and_may_not_look_into_the_first(two: NetHosts) -> None:
    argv = ["ssh", "-F", str(two.config), "-l", "other", "h1", "id -un; cd; pwd; ls /mnt/home"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.stdout == "other\n/mnt/other\n"
    assert "Permission denied" in done.stderr


@needs_netns
def test_nothing_is_left_of_networks_and_mounts(tmp_path: Path) -> None:
    def devices() -> set[str]:
        return {name for _, name in socket.if_nameindex() if name.startswith("lab")}

    before, mounts = devices(), Path("/proc/self/mounts").read_text()
    with netns_hosts(tmp_path / "lab", 2, jump=True, disk="1M") as hosts:
        ours = devices() - before  # an earlier lab's may be about to go
        assert ours
        pid = hosts[0].pid
    wait_for(lambda: not devices() & ours, "the end of the cables")
    assert Path("/proc/self/mounts").read_text() == mounts
    assert not psutil.pid_exists(pid)


def test_a_relay_delays_freezes_and_hangs_up_in_the_middle(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path / "lab", 1) as hosts, relayed(hosts[0], delay_s=0.05) as (far, relay):
        began = time.monotonic()
        assert ssh(far, "echo there").stdout == "there\n"
        assert time.monotonic() - began > 0.5  # a login is at least five round trips
        assert relay.carried > 1000

        relay.delay_s = 0
        relay.freeze()
        with pytest.raises(subprocess.TimeoutExpired):
            ssh(far, "true", timeout_s=1)
        relay.thaw()
        assert ssh(far, "true").returncode == 0

        relay.hang_up_after(200_000)
        argv = ["ssh", "-F", str(far.config), far.name, "head -c 1000000 /dev/zero"]
        cut = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert cut.returncode == 255
        assert len(cut.stdout) < 200_000


def test_a_relay_breaks_connections_rudely_or_politely() -> None:
    with black_hole() as port:
        relay = Relay(("127.0.0.1", port))
        try:
            with socket.create_connection((relay.address, relay.port), timeout=10) as line:
                line.sendall(b"hello")
                wait_for(lambda: relay.carried == 5, "the relay to carry")
                relay.reset()
                with pytest.raises(ConnectionResetError):
                    line.recv(1)
            with socket.create_connection((relay.address, relay.port), timeout=10) as line:
                line.sendall(b"hello")
                wait_for(lambda: relay.carried == 10, "the relay to carry")
                relay.hang_up()
                assert line.recv(1) == b""
        finally:
            relay.close()


def test_a_black_hole_takes_connections_and_says_nothing() -> None:
    with black_hole() as port, socket.create_connection(("127.0.0.1", port), timeout=0.2) as line:
        line.sendall(b"SSH-2.0-somebody\r\n")
        with pytest.raises(TimeoutError):
            line.recv(1)
