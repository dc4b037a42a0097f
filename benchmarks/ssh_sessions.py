"""What it costs to open SSH sessions to many hosts, and to hold them.

    python -m benchmarks.ssh_sessions [--sessions 64] [--hosts 1] [--jump 0] [--rounds 5]

The hosts are sshds of this machine, whose own processor time is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from launcher.hosts.reach import Reacher, reach
from launcher.hosts.session import Session
from launcher.spec.model import HostSpec, Ssh
from tests.lab.sshd import SshHosts, sshd_hosts

IDLE_S = 5.0


@dataclass
class Round:
    """All in seconds."""

    opened: float
    processor: float
    answered: float  # from all opened to one command answered on each
    idle: float  # of a processor, per second


def measure(hosts: SshHosts, sessions: int) -> Round:
    specs = [HostSpec(f"n{n}", ssh=Ssh(alias=hosts[n % len(hosts)].name)) for n in range(sessions)]
    with Reacher(connect_s=60, config=hosts.config) as reaching:
        start, spent = time.monotonic(), time.process_time()
        found = reach(specs, reaching)
        opened, processor = time.monotonic() - start, time.process_time() - spent
        reached = [session for session in found.values() if isinstance(session, Session)]
        if len(reached) < sessions:
            raise SystemExit(next(str(one) for one in found.values() if not isinstance(one, Session)))
        start = time.monotonic()
        channels = [session.run("exec echo hello") for session in reached]
        for channel in channels:
            while channel.read() != b"":
                time.sleep(0.001)
        answered = time.monotonic() - start
        spent = time.process_time()
        time.sleep(IDLE_S)
        idle = (time.process_time() - spent) / IDLE_S
        for session in reached:
            session.close()
    return Round(opened, processor, answered, idle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--jump", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    start = time.monotonic()
    __import__("launcher.hosts.paramiko_connect")
    print(f"import {time.monotonic() - start:.2f} s")
    with tempfile.TemporaryDirectory() as folder, sshd_hosts(Path(folder), options.hosts, jump=options.jump) as hosts:
        rounds = [measure(hosts, options.sessions) for _ in range(options.rounds)]
    for name in ("opened", "processor", "answered", "idle"):
        values = [getattr(one, name) for one in rounds]
        print(f"{name:10} {statistics.median(values):.3f} s   {' '.join(f'{value:.3f}' for value in values)}")


if __name__ == "__main__":
    main()
