"""How soon a death is seen, and that none is seen where nobody died.

    python -m benchmarks.detection [--rounds 5] [--calm MINUTES] [--json FILE]

Exit: `kill -9` of a worker of a local run, until its agent has written that down. Silent host: a host in a namespace is
cut off, or every process on it is frozen, in turn, until the coordinator has written that it hears nothing (`timeouts:`
as they are by default). With `--calm` instead: two such hosts and this machine's agent run for so long while
every core is loaded, in bursts that starve whoever waits, and the coordinator is suspended for a while now and then;
whatever is told of a failure, a stall or a silence meanwhile is a false alarm. Needs root, for namespaces.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.first_step import BenchmarkError
from tests.integration.harness import Launcher, launcher_in
from tests.integration.net_far import NetFar, net_far_in
from tests.lab.netns import NetHost
from worker.contract import records

SLEEPS = "import time\ntime.sleep(100000)\n"
AGAIN = "restart: {max: 1000000, backoff: 0.05 s}\n"
ALARMS = frozenset(
    {
        records.LINK_LOST,
        records.RESTART,
        records.RANK_FAILURE,
        records.RANK_ENDED,
        records.STALLED,
        records.START_TIMEOUT,
        records.COORDINATOR_GONE,
    }
)
SUSPENDED_S, EVERY_S = 12.0, 60.0  # longer than `timeouts.host`
BURN = """import time
while True:
    end = time.monotonic() + 3
    while time.monotonic() < end:
        pass
    time.sleep(0.5)
"""


def first(found: Callable[[], Any], what: str, most_s: float = 60.0) -> Any:
    """The first value that is not None."""
    deadline = time.monotonic() + most_s
    while (value := found()) is None:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {most_s:g} s in vain for {what}")
        time.sleep(0.02)
    return value


def events(launcher: Launcher, host: str | None, *types: str) -> list[dict[str, Any]]:
    return [event for event in launcher.events(launcher.newest(), host) if event["type"] in types]


def exits(folder: Path, rounds: int) -> list[float]:
    """Seconds from each kill to the agent's record of it."""
    with launcher_in(folder) as launcher:
        up = launcher.start("up", str(launcher.program(SLEEPS, extra=AGAIN)), "--plain")
        found = []
        for generation in range(1, rounds + 1):

            def started(generation: int = generation) -> dict[str, Any] | None:
                of = [e for e in events(launcher, "here", records.RANK_STARTED) if e["generation"] == generation]
                return of[-1] if len(of) == 2 else None

            victim = first(started, f"generation {generation}")
            time.sleep(1.0)
            at = time.time()
            os.kill(victim["pid"], signal.SIGKILL)

            def seen(victim: dict[str, Any] = victim) -> float | None:
                ends = events(launcher, "here", records.RANK_ENDED)
                key = (victim["generation"], victim["rank"])
                return next((e["t"] for e in ends if (e["generation"], e["rank"]) == key), None)

            found.append(first(seen, "the end of a killed worker") - at)
        stop(launcher, up)
    return found


def silences(folder: Path, rounds: int) -> list[float]:
    """Seconds from the moment from which nothing comes of a host until that is told."""
    with net_far_in(folder, 2) as far:
        up, _ = far.trains(far.program(SLEEPS))
        host = far.host("h2")
        found = []
        for number in range(rounds):
            time.sleep(2.0)
            at = time.time()
            with silent(host, frozen=number % 2 == 1):
                found.append(first(nth(far, records.LINK_LOST, number), "a silence to be told") - at)
            first(nth(far, records.LINK_BACK, number), "the link to be back")
        stop(far.launcher, up)
    return found


def nth(far: NetFar, type_: str, number: int) -> Callable[[], float | None]:
    def when() -> float | None:
        of = events(far.launcher, None, type_)
        return float(of[number]["t"]) if len(of) > number else None

    return when


@contextlib.contextmanager
def silent(host: NetHost, *, frozen: bool) -> Iterator[None]:
    """Nothing comes of the host: its cable is pulled, or all of its processes stand still."""
    those = psutil.Process(host.pid).children(recursive=True) if frozen else []
    try:
        for process in those:
            process.suspend()
        if not frozen:
            host.cut()
        yield
    finally:
        for process in those:
            process.resume()
        if not frozen:
            host.heal()


def calm(folder: Path, minutes: float) -> list[dict[str, Any]]:
    """False alarms of a run in which nobody dies, on a machine that has too much to do."""
    with net_far_in(folder, 2) as far:
        spec = far.program(SLEEPS, extra="timeouts: {lease: 1 h}\n")
        spec.write_text(spec.read_text().replace("hosts:\n", "hosts:\n  - {name: here, local: true}\n", 1))
        up, run = far.trains(spec)
        (coordinator,) = events(far.launcher, None, records.COORDINATOR_STARTED)
        loaded = [subprocess.Popen([sys.executable, "-I", "-S", "-c", BURN]) for _ in range(2 * (os.cpu_count() or 1))]
        try:
            until = time.monotonic() + 60 * minutes
            while time.monotonic() + EVERY_S < until:
                time.sleep(EVERY_S - SUSPENDED_S)
                os.kill(coordinator["pid"], signal.SIGSTOP)
                time.sleep(SUSPENDED_S)
                os.kill(coordinator["pid"], signal.SIGCONT)
            time.sleep(max(0.0, until - time.monotonic()))
        finally:
            for process in loaded:
                process.kill()
                process.wait()
        alarms = [e for host in (None, "here") for e in far.launcher.events(run, host) if e["type"] in ALARMS]
        for name in ("h1", "h2"):
            there = (far.there(name) / "events.jsonl").read_text().splitlines()
            alarms += [event for event in map(json.loads, there) if event["type"] in ALARMS]
        stop(far.launcher, up)
    return alarms


def stop(launcher: Launcher, up: subprocess.Popen[bytes]) -> None:
    launcher.run("down", "--now", check=None)
    up.wait(60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calm", type=float, default=0.0, metavar="MINUTES")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    result: dict[str, Any]
    with tempfile.TemporaryDirectory(prefix="detection-", ignore_cleanup_errors=True) as name:
        if asked.calm:
            alarms = calm(Path(name, "calm"), asked.calm)
            result = {"minutes": asked.calm, "false_alarms": alarms}
            print(f"{asked.calm:g} min, {os.cpu_count()} cores loaded: {len(alarms)} false alarms")
            for alarm in alarms:
                print(f"  {alarm}")
        else:
            seen, heard = exits(Path(name, "exits"), asked.rounds), silences(Path(name, "silences"), asked.rounds)
            result = {"exit_s": seen, "silent_host_s": heard}
            print(f"exit of a worker seen after {told(seen, 3)}")
            print(f"silent host told after {told(heard, 1)} (cut off and frozen in turn)")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")
    return int(bool(result.get("false_alarms")))


def told(seconds: list[float], digits: int) -> str:
    return f"{statistics.median(seconds):.{digits}f} s (most {max(seconds):.{digits}f}, {len(seconds)} times)"


if __name__ == "__main__":
    sys.exit(main())
