"""From `launcher up` to "all started" on many hosts, and what it costs the coordinator.

    python -m benchmarks.many_hosts [--hosts 4 16 64] [--rounds 3] [--transport paramiko] [--json FILE]

The hosts are sshds of this machine on 127.0.0.2, 127.0.0.3 …; all that they do takes place on the same cores. Each runs
a program that sleeps. A first `up` brings our code; those that are measured find everything as it was. Beside it, in
the same round, stands what the hosts cost without us: a session to each, and one `python3 -I -S -c pass` through it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.first_step import BenchmarkError, end, read_records, tail
from benchmarks.hand_started import LAUNCHER
from launcher.hosts.reach import Reacher, reach
from launcher.hosts.session import Session
from launcher.spec.model import HostSpec, Ssh
from tests.lab.sshd import SshHosts, sshd_hosts
from worker.contract import records

DEADLINE_S = 120.0
SETTLED_S = 3.0  # after the start, until the coordinator's memory is looked at
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Round:
    """Seconds since the command, if nothing else is said."""

    prepared: float  # the coordinator has the run: all hosts reached, ready, looked at
    reached: float  # … and how long each part of that took
    made_ready: float
    examined: float
    answering: float  # from the first connection to the last agent's answer, with all that lies between
    all_started: float
    processor: float  # seconds of all processors, until then
    coordinator: float  # of that, the coordinator's
    coordinator_later: float  # of a processor, per second, afterwards
    peak_mb: float
    floor: float  # a session to each host and one bare Python through it
    floor_processor: float


SLEEPS = f"program: [sleep, '{int(DEADLINE_S) * 10}']"


def cluster(folder: Path, hosts: SshHosts, transport: str, job: str = SLEEPS) -> Path:
    """A spec of all hosts; `job` is what they do."""
    lines = ["name: many", "hosts:"]
    for place, host in enumerate(hosts):
        # They share this machine's ports.
        lines += [
            f"  - name: {host.name}",
            f"    ssh: {{host: {host.address}, port: {host.port}, user: {host.user}, key: {host.key}}}",
            f"    host_keys: '{host.fingerprint}'",
            f"    ports: {20000 + 100 * place}-{20099 + 100 * place}",
        ]
    lines += [
        "host_defaults:",
        f"  python: {sys.executable}",
        f"  transport: {transport}",
        job,
    ]
    path = folder / "job" / "cluster.yaml"
    path.parent.mkdir()
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def up(
    spec: Path, runs: Path, environ: dict[str, str], worked: list[tuple[float, float]]
) -> Iterator[tuple[float, Path]]:
    """A run that has started: when its command was given, and its folder. It is ended at exit.

    `worked` is given what the processors have worked until then, as (seconds since 1970, seconds of all of them).
    """
    runs.mkdir()
    log = runs / "up.log"
    command = [*LAUNCHER, "up", str(spec), "--plain", "--set", f"coordinator.runs={runs}"]
    with log.open("wb") as file:
        since = time.time()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, env=environ
        )
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not (journals := list(runs.glob("*/events.jsonl"))) or not _training(journals[0]):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchmarkError(f"the run did not start:\n{tail(log)}")
                worked.append((time.time(), _processor()))
                time.sleep(0.05)
            yield since, journals[0].parent
        finally:
            end(process, signal.SIGINT, signal.SIGINT)


def measure(hosts: SshHosts, folder: Path, spec: Path, number: int) -> Round:
    """One start of a run, and one of the floor."""
    # With what Python has compiled, as it is wherever a launcher has run before.
    environ = {**os.environ, "HOME": str(folder / "home"), "PYTHONDONTWRITEBYTECODE": ""}
    worked: list[tuple[float, float]] = []
    with up(spec, folder / f"runs{number}", environ, worked) as (since, run):
        told = {str(record["type"]): record for record in read_records(run / "events.jsonl")}
        pid = int(told[records.COORDINATOR_STARTED]["pid"])
        coordinator = _spent(pid)
        took = told[records.COORDINATOR_STARTED].get("took", {})
        begun = float(told[records.COORDINATOR_STARTED]["t"]) - sum(took.values())
        started = max(
            float(record["t"])
            for host in hosts
            for record in read_records(host.home / "launcher-work" / run.name / host.name / "events.jsonl")
            if record["type"] == records.RANK_STARTED
        )
        processor = max(spent for t, spent in worked if t <= started) - worked[0][1]
        time.sleep(SETTLED_S)
        later, peak = (_spent(pid) - coordinator) / SETTLED_S, _peak_mb(pid)
    floor, floor_processor = _floor(hosts)
    return Round(
        prepared=float(told[records.COORDINATOR_STARTED]["t"]) - since,
        reached=float(took.get("reached", 0.0)),
        made_ready=float(took.get("made_ready", 0.0)),
        examined=float(took.get("examined", 0.0)),
        answering=float(told[records.GENERATION_STARTED]["t"]) - begun,
        all_started=started - since,
        processor=processor,
        coordinator=coordinator,
        coordinator_later=later,
        peak_mb=peak,
        floor=floor,
        floor_processor=floor_processor,
    )


def _floor(hosts: SshHosts) -> tuple[float, float]:
    """(seconds, seconds of all processors) for a session to each host, and a Python that does nothing through it."""
    specs = [HostSpec(host.name, ssh=Ssh(alias=host.name)) for host in hosts]
    before, start = _processor(), time.monotonic()
    with Reacher(connect_s=60, config=hosts.config) as reacher:
        found = reach(specs, reacher)
        sessions = [session for session in found.values() if isinstance(session, Session)]
        if len(sessions) < len(hosts):
            raise BenchmarkError(next(str(one) for one in found.values() if not isinstance(one, Session)))
        channels = [session.run("exec python3 -I -S -c pass") for session in sessions]
        for channel in channels:
            while channel.read() != b"":
                time.sleep(0.001)
        took = time.monotonic() - start, _processor() - before
        for session in sessions:
            session.close()
    return took


def _training(journal: Path) -> bool:
    return any(r["type"] == records.RUN_STATE and r.get("state") == "training" for r in read_records(journal))


def _processor() -> float:
    """Seconds that all processors of this machine have worked."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / _TICKS


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def several(count: int, rounds: int, transport: str) -> list[Round]:
    """So many starts on `count` hosts, after one that is not counted."""
    with tempfile.TemporaryDirectory(prefix="many-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "home").mkdir()
        with sshd_hosts(folder / "hosts", count) as hosts:
            spec = cluster(folder, hosts, transport)
            return [measure(hosts, folder, spec, number) for number in range(rounds + 1)][1:]


def table(found: dict[int, list[Round]]) -> str:
    """Medians, a column for each number of hosts."""
    names = list(Round.__dataclass_fields__)
    rows = [f"{'hosts':20}" + "".join(f"{count:>10}" for count in found)]
    for name in names:
        values = [statistics.median(getattr(one, name) for one in rounds) for rounds in found.values()]
        rows.append(f"{name:20}" + "".join(f"{value:>10.2f}" for value in values))
    return "\n".join(rows)


def main() -> None:
    """Measure, print the table, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(description="From `launcher up` to all workers started, on many hosts.")
    parser.add_argument("--hosts", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transport", default="paramiko", choices=["paramiko", "openssh"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    found = {count: several(count, max(1, options.rounds), options.transport) for count in options.hosts}
    print(table(found))
    if options.json:
        told = {str(count): [asdict(one) for one in rounds] for count, rounds in found.items()}
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
