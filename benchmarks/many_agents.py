"""From nothing to an agent that answers on each of many hosts: a connection, one Python, its relay, its agent.

    python -m benchmarks.many_agents [--hosts 64] [--rounds 5] [--transport paramiko]

The hosts are sshds of this machine on 127.0.0.2, 127.0.0.3 …; all that they do takes place on the same cores. Our code
is on them already. No files are staged, no host is looked at and no pair is tried: `benchmarks.many_hosts` has all that
in it. In turn with it stands the floor: a connection to each host and one `python3 -I -S -c pass` through it.
"""

from __future__ import annotations

import argparse
import select
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks.first_step import BenchmarkError
from launcher.hosts.base import RunOnHost, Stream
from launcher.hosts.reach import Reacher, reach
from launcher.hosts.session import Session
from launcher.hosts.ssh import SshHost
from launcher.hosts.visit import visit
from launcher.spec.model import HostSpec, Ssh
from tests.lab.sshd import SshHosts, sshd_hosts
from worker.contract import wire

DEADLINE_S = 60.0

Transport = Literal["paramiko", "openssh"]


def specs_of(hosts: SshHosts, transport: Transport) -> dict[str, HostSpec]:
    return {host.name: HostSpec(host.name, ssh=Ssh(alias=host.name), transport=transport) for host in hosts}


def connected(hosts: SshHosts, reacher: Reacher, transport: Transport) -> dict[str, Session]:
    found = reach(list(specs_of(hosts, transport).values()), reacher)
    sessions = {name: session for name, session in found.items() if isinstance(session, Session)}
    if len(sessions) < len(hosts):
        raise BenchmarkError(next(str(one) for one in found.values() if not isinstance(one, Session)))
    return sessions


def places(hosts: SshHosts, transport: Transport) -> dict[str, tuple[str, str]]:
    """Brings our code to each host; returns by host where runs lie there, and where the code."""
    with Reacher(connect_s=60, config=hosts.config) as reacher:
        sessions, found = connected(hosts, reacher, transport), {}
        for name, session in sessions.items():
            entered = visit(session, workdir=HostSpec(name).workdir)
            found[name] = (entered.workdir, entered.code)
            entered.talk.close()
            session.close()
    return found


def agents(hosts: SshHosts, transport: Transport, run: str, places: dict[str, tuple[str, str]]) -> tuple[float, float]:
    """Seconds since the first connection was asked for: (all are open, all agents have answered)."""
    specs = specs_of(hosts, transport)
    start = time.monotonic()
    with Reacher(connect_s=60, config=hosts.config) as reacher:
        sessions = connected(hosts, reacher, transport)
        opened = time.monotonic() - start
        streams: dict[str, Stream] = {}
        for name, session in sessions.items():
            workdir, code = places[name]
            host = SshHost(specs[name], partial(sessions.__getitem__, name), session)
            streams[name] = host.open(RunOnHost(run, name, f"{workdir}/{run}/{name}", code, lease_s=30.0), start=True)
        _answers(streams)
        answered = time.monotonic() - start
        for one in streams.values():
            one.send({"type": wire.STOP, "how": "now", "reason": "the benchmark is over"})
        _ends(streams)
        for session in sessions.values():
            session.close()
    return opened, answered


def _answers(streams: dict[str, Stream]) -> None:
    def heard(messages: list[wire.Message]) -> bool:
        return any(message["type"] == wire.HELLO for message in messages)

    _until(streams, heard, "an agent's hello")


def _ends(streams: dict[str, Stream]) -> None:
    _until(streams, None, "an agent's end")
    for stream in streams.values():
        stream.close()


def _until(streams: dict[str, Stream], told: Callable[[list[wire.Message]], bool] | None, what: str) -> None:
    """Until each stream has told it; or, without `told`, has ended."""
    waiting, deadline = dict(streams), time.monotonic() + DEADLINE_S
    while waiting:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {DEADLINE_S:g} s for {what}: {', '.join(waiting)}")
        ready, _, _ = select.select(list(waiting.values()), [], [], 1.0)
        for name, stream in list(waiting.items()):
            if stream not in ready:
                continue
            messages, is_open = stream.receive()
            if told is not None and told(messages):
                del waiting[name]
            elif not is_open:
                if told is not None:
                    raise BenchmarkError(f"{name}: {stream.complaint() or 'the stream ended'}")
                del waiting[name]


def floor(hosts: SshHosts, transport: Transport) -> float:
    """Seconds for a connection to each host and a bare Python through it."""
    start = time.monotonic()
    with Reacher(connect_s=60, config=hosts.config) as reacher:
        sessions = connected(hosts, reacher, transport)
        channels = [session.run("exec python3 -I -S -c pass") for session in sessions.values()]
        for channel in channels:
            while channel.read() != b"":
                time.sleep(0.001)
        took = time.monotonic() - start
        for session in sessions.values():
            session.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transport", default="paramiko", choices=["paramiko", "openssh"])
    options = parser.parse_args()
    rows: dict[str, list[float]] = {"opened": [], "answering": [], "floor": []}
    with (
        tempfile.TemporaryDirectory(prefix="agents-", ignore_cleanup_errors=True) as folder,
        sshd_hosts(Path(folder), options.hosts) as hosts,
    ):
        known = places(hosts, options.transport)
        for number in range(options.rounds + 1):
            opened, answering = agents(hosts, options.transport, f"agents{number}", known)
            if number:  # in the first one Python compiles our code
                rows["opened"].append(opened)
                rows["answering"].append(answering)
                rows["floor"].append(floor(hosts, options.transport))
    for row, values in rows.items():
        print(f"{row:10} {statistics.median(values):.2f} s   {' '.join(f'{value:.2f}' for value in values)}")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
