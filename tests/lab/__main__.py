"""`python -m tests.lab`: a cluster to play with on this machine, up until Ctrl-C. See docs/lab.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.hosts import SshHosts
from tests.lab.machine import LabError
from tests.lab.netns import NetHost, netns_hosts
from tests.lab.sshd import sshd_hosts

MARK = ".lab"  # in a folder that is ours to remove


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="Hosts to play with, until Ctrl-C.")
    parser.add_argument("--hosts", type=int, default=4, help="how many")
    parser.add_argument("--folder", type=Path, default=Path("lab"), help="where cluster.yaml and everything else goes")
    parser.add_argument("--net", action="store_true", help="each with a network of its own (needs root)")
    parser.add_argument("--jump", action="store_true", help="behind a jump host; cluster.yaml names it by its alias")
    asked = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        play(asked.folder.absolute(), asked.hosts, net=asked.net, jump=asked.jump)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
    return 0


def play(folder: Path, count: int, *, net: bool, jump: bool) -> None:
    """Bring the hosts up, tell what can be done with them, do what is typed; all is gone at the end."""
    if folder.exists() and not (folder / MARK).exists():
        raise LabError(f"{folder} is there, and not from an earlier lab: name another one with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    (folder / MARK).touch()
    kind: Callable[..., contextlib.AbstractContextManager[SshHosts]] = netns_hosts if net else sshd_hosts
    try:
        with kind(folder, count, jump=jump) as hosts:
            (folder / "cluster.yaml").write_text(cluster_yaml(hosts))
            print(what_to_type(hosts), flush=True)
            for line in sys.stdin:
                if words := line.split():
                    obey(hosts, words)
            signal.pause()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cluster_yaml(hosts: SshHosts) -> str:
    """A spec for these hosts, complete in itself: addresses, key and fingerprints, nothing of ~/.ssh."""
    lines = ["# Written by the lab; gone with it.", "name: lab", "hosts:"]
    for n, host in enumerate(hosts):
        ssh = f"{{host: {host.address}, user: {host.user}, port: {host.port}, key: {host.key}}}"
        lines += [
            f"  - name: {host.name}",
            f"    ssh: {host.name if hosts.gates else ssh}",
            f"    host_keys: {'known' if hosts.gates else host.fingerprint}",
            f"    address: {host.address}",
            # On one machine the hosts' ports are one machine's, unless each has a network of its own.
            f"    ports: {20000 + 20 * n}-{20019 + 20 * n}",
        ]
    lines += ["host_defaults:", f"  python: {sys.executable}", "  threads: 1", "train:", "  epochs: 3"]
    return "\n".join(lines) + "\n"


def what_to_type(hosts: SshHosts) -> str:
    here = Path.cwd()
    folder = hosts.folder.relative_to(here) if hosts.folder.is_relative_to(here) else hosts.folder
    python = Path(sys.executable)
    launcher = f"{python.relative_to(here) if python.is_relative_to(here) else python} -m launcher"
    up = "\n".join(f"  {host.name:<6} {host.user}@{host.address} port {host.port}" for host in (*hosts.gates, *hosts))
    return f"""\
Up, each with an sshd and a home of its own:
{up}

In another terminal:
  {launcher} check {folder}/cluster.yaml
  {launcher} up {folder}/cluster.yaml
  ssh -F {folder}/ssh_config h1

Here: {", ".join(deeds(hosts))}
Ctrl-C ends the hosts and everything on them, and removes {folder}.
"""


def deeds(hosts: SshHosts) -> Sequence[str]:
    """What can be done to a host by typing it."""
    common = ("kill HOST (its sshd)", "crash HOST", "start HOST")
    return (*common, "cut HOST", "slow HOST 1mbit", "heal HOST", "reboot HOST") if is_net(hosts) else common


def is_net(hosts: SshHosts) -> bool:
    return isinstance(hosts[0], NetHost)


def obey(hosts: SshHosts, words: Sequence[str]) -> None:
    by_name = {host.name: host for host in (*hosts.gates, *hosts)}
    known = {deed.split()[0] for deed in deeds(hosts)}
    if words[0] not in known or len(words) < 2 or words[1] not in by_name:
        print(f"one of these was expected: {', '.join(deeds(hosts))}, with HOST one of {', '.join(by_name)}")
        return
    try:
        getattr(by_name[words[1]], words[0])(*words[2:])
    except (LabError, TypeError) as error:
        print(f"error: {error}")
    else:
        print(f"{words[1]}: done", flush=True)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
