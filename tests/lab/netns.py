"""Hosts with a network of their own: namespaces on a bridge, so that a test can cut a cable or slow it down.

            this machine ── switch ── h1, h2 …                      10.X.Y.1, and 10.X.Y.11, 10.X.Y.12 …
            this machine ── switch ── gate1 ── switch ── h1, h2 …   with jump=1; no way but through it

Each has its own sshd on port 22, loopback, ports, abstract sockets, host name, machine and boot id, and a home that all
call `/mnt/home` and that no other sees. They share processes, clock and memory. Needs root. Nothing is left in the
system if the owner is killed: what there is of namespaces, bridges and cables goes with the last process in them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.lab.hosts import (
    Setting,
    SshHost,
    SshHosts,
    bring_up,
    find_shell,
    greet,
    make_key,
    prepare,
    sshd_argv,
    why_no_sshd,
    write_client,
)
from tests.lab.machine import LabError, Machine

HOME = "/mnt/home"  # of root on every host
OTHER = "other"  # a second user on every host, with the same key and a home of its own
OTHER_ID = 4242
Direction = Literal["both", "in", "out"]


def why_no_netns() -> str:
    """Why there can be no hosts with networks of their own here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "tc", "iptables", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"no {program} is installed (Debian: apt-get install iproute2 iptables util-linux)"
    tried = subprocess.run(["unshare", "-n", "-m", "-u", "true"], capture_output=True, text=True, check=False)
    return why_no_sshd() or (f"no namespaces can be made: {tried.stderr.strip()}" if tried.returncode else "")


@dataclass
class NetHost(SshHost):
    """A host with a network of its own; see the module for what is its own and what is shared."""

    home_there: str = HOME  # the path of `home`, as the host sees it
    cable: str = ""  # the switch's end of its cable, inside of `switch`
    switch: Machine | None = field(default=None, repr=False)

    def command(self, *argv: str) -> list[str]:
        """argv that runs `argv` on the host as root, without SSH."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", "--", *argv]

    def run(self, *argv: str) -> str:
        """What a command on the host prints. Raises LabError with its errors."""
        return _run(*self.command(*argv))

    def cut(self, direction: Direction = "both", *, peer: str = "", port: str = "") -> None:
        """Drop every packet from (`in`) or to (`out`) the others, or `peer`'s only, or those to a TCP port or `a:b`.

        Nobody is told: to both ends it looks like a cable that was pulled. Adds to earlier cuts. With a `peer`, only
        the version of IP of its address.
        """
        which = ["-p", "tcp", "--dport", port] if port else []
        for table in self._tables(peer):
            if direction in ("both", "in"):
                self._drop(table, "INPUT", "-i", [*(["-s", peer] if peer else []), *which])
            if direction in ("both", "out"):
                self._drop(table, "OUTPUT", "-o", [*(["-d", peer] if peer else []), *which])

    def firewall(self, *allowed: str, refuse: bool = False) -> None:
        """Let others open only these TCP ports (`22`, `20000:20099`) here; drop the rest, or refuse it aloud."""
        target = ["REJECT", "--reject-with", "tcp-reset"] if refuse else ["DROP"]
        for table in self._tables():
            for port in allowed:
                self.run(table, "-A", "INPUT", "-p", "tcp", "--dport", port, "-j", "ACCEPT")
            self.run(table, "-A", "INPUT", "!", "-i", "lo", "-p", "tcp", "--syn", "-j", *target)

    def heal(self) -> None:
        """Undo cuts, firewall and slowness."""
        for table in self._tables():
            self.run(table, "-F")
        undo = ("tc", "qdisc", "del", "root", "dev")
        for argv in (self.command(*undo, "eth0"), self._on_switch(*undo, self.cable)):
            subprocess.run(argv, capture_output=True, check=False)  # it may not have been slow

    def slow(self, rate: str, direction: Direction = "both") -> None:
        """Let no more than `rate` (`1mbit`, tc's units) out of the host, into it, or both."""
        if direction in ("both", "out"):
            self.run("tc", "qdisc", "replace", "dev", "eth0", *_shape(rate))
        if direction in ("both", "in"):
            _run(*self._on_switch("tc", "qdisc", "replace", "dev", self.cable, *_shape(rate)))

    def reboot(self) -> None:
        """Crash, and come back with another boot id."""
        self.crash()
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self.start()

    def _tables(self, peer: str = "") -> list[str]:
        """The programs for the versions of IP that are meant."""
        if peer:
            return ["ip6tables" if ":" in peer else "iptables"]
        return ["iptables", "ip6tables"] if self.address6 else ["iptables"]

    def _drop(self, table: str, chain: str, option: str, which: Sequence[str]) -> None:
        self.run(table, "-I", chain, "!", option, "lo", *which, "-j", "DROP")

    def _on_switch(self, *argv: str) -> list[str]:
        assert self.switch is not None
        return ["nsenter", "-t", str(self.switch.pid), "-n", "--", *argv]


class NetHosts(SshHosts):
    """The hosts h1, h2 …, and the gate in front of them, if there is one."""

    network = ""  # that the hosts share, `10.X.Y.0/24`
    here = ""  # this machine's address, as the hosts see it (with a gate: as that sees it)
    switch: Machine | None = None  # that this machine is plugged in to

    def slow_home(self, rate: str = "") -> None:
        """Let no more than `rate` in all come from the hosts to this machine; without one, as much as there is.

        The way between the hosts, and to them, stays as it was.
        """
        assert self.switch is not None
        undo = ("tc", "qdisc", "del", "root", "dev", "up0")
        todo = ("tc", "qdisc", "replace", "dev", "up0", *_shape(rate)) if rate else undo
        _in_net(self.switch, *todo)

    def host(self, n: int) -> NetHost:
        """The n-th host, from 0, by its own type."""
        host = self[n]
        assert isinstance(host, NetHost)
        return host

    @property
    def gate(self) -> NetHost:
        gate = self.gates[0]
        assert isinstance(gate, NetHost)
        return gate


@contextlib.contextmanager
def netns_hosts(
    folder: Path,
    count: int = 2,
    *,
    jump: bool = False,
    lines: Sequence[str] = (),
    shell: str = "bash",
    greeting: str = "",
    hide: Sequence[Path] = (),
    disk: str = "",
    one_home: bool = False,
) -> Iterator[NetHosts]:
    """`count` hosts named h1, h2 … and, with `jump`, gate1 in front of them; all gone at exit. Raises LabError.

    `hide`: folders of this machine that the hosts find empty; those of the other hosts they do anyhow.
    `disk`: the size of the disk that each home is on (`50M`), if it is to be one of its own.
    `one_home`: all hosts have the same home, as if it were on NFS.
    """
    if reason := why_no_netns():
        raise LabError(reason)
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_key(folder / "key")
    outer, inner = _free_nets()
    gates = [_host(folder, "gate1", outer[2])] if jump else []
    hosts = [_host(folder, f"h{n + 1}", (inner if jump else outer)[11 + n]) for n in range(count)]
    lab = NetHosts(folder, gates, hosts)
    lab.network = str(inner if jump else outer)
    setting = Setting(lines=tuple(lines), shell=shell, greeting=greeting)
    with contextlib.ExitStack() as stack:
        lab.here = str(outer[1])
        switches = [Machine(f"switch{n}", folder / f"switch{n}") for n in range(2 if jump else 1)]
        lab.switch = switches[0]
        for machine in (*switches, *gates, *hosts):
            machine.folder.mkdir(mode=0o700, exist_ok=True)
        for host in hosts[1:] if one_home else ():
            hosts[0].home.mkdir(mode=0o700, exist_ok=True)
            host.home.symlink_to(hosts[0].home)
        for host in (*gates, *hosts) if disk else ():
            _own_disk(stack, host, disk)
        for machine in (*switches, *gates, *hosts):
            stack.callback(machine.close)
        for switch in switches:
            switch.spawn(["unshare", "-n"], [])
        for host in (*gates, *hosts):
            _prepare(host, setting, [*hide, *(other.folder for other in (*gates, *hosts) if other is not host)])
            host.spawn(["unshare", "-n", "-m", "-u", "/bin/sh", str(host.folder / "init")], sshd_argv(host))
        write_client(lab)
        _wire(switches, gates, hosts, outer, inner)
        bring_up([*gates, *hosts])
        yield lab


def _shape(rate: str) -> list[str]:
    return ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"]


def _host(folder: Path, name: str, address: ipaddress.IPv4Address) -> NetHost:
    made = NetHost(name, folder / name, str(address), 22, folder / "key", folder / "known_hosts", folder / "ssh_config")
    if Path("/proc/net/if_inet6").exists():
        made.address6 = _six(address)
    return made


def _six(address: ipaddress.IPv4Address) -> str:
    """The IPv6 address that goes with an IPv4 one: of a network of its own, as that is."""
    _, second, third, last = address.packed
    return f"fd00:{second:x}:{third:x}::{last:x}"


def _own_disk(stack: contextlib.ExitStack, host: NetHost, size: str) -> None:
    host.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "lab", str(host.home))
    stack.callback(_run, "umount", "-l", str(host.home))


def _prepare(host: NetHost, setting: Setting, hidden: Sequence[Path]) -> None:
    """Its files, and `init`, which makes them the host's own view before it becomes the keeper."""
    shell = find_shell(setting.shell or "bash")
    prepare(host, setting, ["AuthorizedKeysFile /mnt/authorized_keys", "PermitUserEnvironment no"])
    if setting.greeting:
        greet(host.home, shell, setting.greeting)
    other = host.folder / OTHER
    other.mkdir(mode=0o700, exist_ok=True)
    os.chown(other, OTHER_ID, OTHER_ID)
    users = f"root:x:0:0:root:{HOME}:{shell}\n{OTHER}:x:{OTHER_ID}:{OTHER_ID}::/mnt/{OTHER}:{shell}\n"
    system = [line for line in Path("/etc/passwd").read_text().splitlines(True) if not line.startswith("root:")]
    (host.folder / "passwd").write_text(users + "".join(system))
    (host.folder / "shadow").write_text(f"root:*:20000:0:99999:7:::\n{OTHER}:*:20000:0:99999:7:::\n")
    (host.folder / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    (host.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
    for name in ("passwd", "machine-id", "boot_id", "authorized_keys"):
        (host.folder / name).chmod(0o644)  # for the second user, whatever our umask
    steps = [
        f"echo {host.name} > /proc/sys/kernel/hostname",
        "mount -t tmpfs -o mode=755 lab /mnt",
        f"mkdir {HOME} /mnt/{OTHER}",
        "touch /mnt/authorized_keys",
        _bind(host.home, HOME),
        _bind(other, f"/mnt/{OTHER}"),
        _bind(host.authorized_keys, "/mnt/authorized_keys"),
        *(_bind(host.folder / name, f"/etc/{name}") for name in ("passwd", "shadow", "machine-id")),
        _bind(host.folder / "boot_id", "/proc/sys/kernel/random/boot_id"),
        "umount -l /sys && mount -t sysfs lab /sys",  # its own network devices
        *(f"mount -t tmpfs -o mode=700 lab {shlex.quote(str(path))}" for path in hidden),
    ]
    (host.folder / "init").write_text("set -e\n" + "\n".join(steps) + '\nexec "$@"\n')


def _bind(ours: Path, theirs: str) -> str:
    bind = f"mount --bind {shlex.quote(str(ours))} {theirs}"
    return f"[ ! -e {theirs} ] || {bind}" if theirs == "/etc/machine-id" else bind


def _wire(
    switches: Sequence[Machine],
    gates: Sequence[NetHost],
    hosts: Sequence[NetHost],
    outer: ipaddress.IPv4Network,
    inner: ipaddress.IPv4Network,
) -> None:
    """Cables between everyone and the switches. A cable is gone with either of its ends."""
    for switch in switches:
        _enter_own_net(switch)
        _in_net(switch, "ip", "link", "add", "sw", "type", "bridge")
        _in_net(switch, "ip", "link", "set", "sw", "up")
    for host in (*gates, *hosts):
        _enter_own_net(host)
        _in_net(host, "ip", "link", "set", "lo", "up")
    ours = f"lab{int(outer.network_address) >> 8 & 0xFFFF:x}"
    _run("ip", "link", "add", ours, "type", "veth", "peer", "name", "up0", "netns", str(switches[0].pid))
    _plug(switches[0], "up0")
    _run("ip", "address", "add", f"{outer[1]}/24", "dev", ours)
    _run("ip", "link", "set", ours, "up")
    if hosts and hosts[0].address6:
        _run("ip", "address", "add", f"{_six(outer[1])}/64", "dev", ours, "nodad")
    if gates:
        # So that nothing meant for the inside ever leaves this machine by its real network.
        _run("ip", "route", "add", str(inner), "dev", ours)
    for n, host in enumerate((*gates, *hosts)):
        behind = bool(gates) and n > 0
        _cable(host, switches[1 if behind else 0], f"port{n}", "eth0", host.address)
    for gate in gates:
        _cable(gate, switches[1], "gate", "eth1", str(inner[2]))


def _cable(host: NetHost, switch: Machine, port: str, device: str, address: str) -> None:
    _in_net(switch, "ip", "link", "add", port, "type", "veth", "peer", "name", device, "netns", str(host.pid))
    _plug(switch, port)
    _in_net(host, "ip", "address", "add", f"{address}/24", "dev", device)
    if host.address6:
        _in_net(host, "ip", "address", "add", f"{_six(ipaddress.IPv4Address(address))}/64", "dev", device, "nodad")
    _in_net(host, "ip", "link", "set", device, "up")
    if device == "eth0":
        host.cable, host.switch = port, switch


def _plug(switch: Machine, port: str) -> None:
    _in_net(switch, "ip", "link", "set", port, "master", "sw", "up")


def _in_net(machine: Machine, *argv: str) -> None:
    _run("nsenter", "-t", str(machine.pid), "-n", "--", *argv)


def _enter_own_net(machine: Machine, timeout_s: float = 10.0) -> None:
    """Wait until it has left this machine's network: until then its process is still `unshare`, just begun."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{machine.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink():
                return
        time.sleep(0.005)
    raise LabError(f"{machine.name} got no network of its own: {machine.log.read_text(errors='replace')}")


def _free_nets() -> tuple[ipaddress.IPv4Network, ipaddress.IPv4Network]:
    """Two /24 of 10/8 that no route of this machine leads to."""
    routes = json.loads(_run("ip", "-j", "route", "show", "table", "all"))
    taken = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in routes
        if route["dst"][:1].isdigit() and ":" not in route["dst"] and not route["dst"].startswith("0.0.0.0")
    ]
    while True:
        n = random.SystemRandom().randrange(0x4000, 0xFF00, 2)
        nets = [ipaddress.IPv4Network(((10 << 24) + ((n + more) << 8), 24)) for more in (0, 1)]
        if not any(net.overlaps(other) for net in nets for other in taken if isinstance(other, ipaddress.IPv4Network)):
            return nets[0], nets[1]


def _run(*argv: str) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{shlex.join(argv)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
