"""From `kill -9` of a worker to the first new training step, with forked workers and with cold ones.

    python -m benchmarks.restart [--kills 5] [--workers 2] [--every 0] [--for 0] [--json FILE]

Runs `launcher up` of the tutorial's CNN and kills a worker again and again, every other time the chief; once with
`restart: {zygote: true}` and once without, in turn. With `--every 60 --for 1200` it kills one every minute for twenty
minutes instead and reports goodput: the share of the time in which the steps that count were done.
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
from typing import Any

from benchmarks.first_step import BenchmarkError, end, read_records, tail
from benchmarks.hand_started import LAUNCHER
from worker.contract import records

SPEC = """name: restart
hosts: [{{name: here, local: true, workers: {workers}}}]
train: {{dataset: fashion-mnist-mini, epochs: 100000}}
checkpoint: {{every: 5 min}}
restart: {{max: 1000000, zygote: {zygote}}}
"""
_WAIT_S = 120.0


@dataclass(frozen=True)
class Restart:
    """Seconds since the kill, and steps that were finished before it and done again."""

    detected_s: float
    begun_s: float
    first_step_s: float
    done_twice: int


class Run:
    """A run under way, seen through its files."""

    def __init__(self, runs: Path, workers: int) -> None:
        self._runs = runs
        self._workers = workers

    def events(self) -> list[records.Record]:
        return [r for path in self._runs.glob("*/hosts/here/events.jsonl") for r in read_records(path)]

    def journal(self) -> list[records.Record]:
        return [r for path in self._runs.glob("*/events.jsonl") for r in read_records(path)]

    def first_step(self, generation: int) -> float | None:
        """When the last rank of a generation had done its first step."""
        pattern = f"*/hosts/here/g{generation}/rank*.progress.jsonl"
        times = [
            float(r["t"])
            for path in self._runs.glob(pattern)
            for r in read_records(path)
            if r["type"] == records.PHASE and r.get("name") == "first_step"
        ]
        return max(times) if len(times) == self._workers else None

    def newest_step(self, generation: int) -> int:
        """The newest step that any rank of a generation has told of."""
        pattern = f"*/hosts/here/g{generation}/rank*.progress.jsonl"
        found = [r for path in self._runs.glob(pattern) for r in read_records(path) if r["type"] == records.STEP]
        return max((int(r["step"]) for r in found), default=0)

    def pid(self, generation: int, rank: int) -> int:
        return next(
            int(r["pid"])
            for r in self.events()
            if r["type"] == records.RANK_STARTED and (r["generation"], r["rank"]) == (generation, rank)
        )


@contextlib.contextmanager
def under_way(folder: Path, workers: int, *, zygote: bool) -> Iterator[Run]:
    """`launcher up`, ended with the block."""
    folder.mkdir()
    spec, log = folder / "cluster.yaml", folder / "up.log"
    spec.write_text(SPEC.format(workers=workers, zygote=str(zygote).lower()))
    command = [*LAUNCHER, "up", str(spec), "--plain", "--set", f"coordinator.runs={folder / 'runs'}"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
        try:
            yield Run(folder / "runs", workers)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{tail(log)}") from error
        finally:
            if not end(process, signal.SIGINT, signal.SIGINT):
                print("the run did not end on two Ctrl-C: `launcher ps --kill`", file=sys.stderr)


def await_first_step(run: Run, generation: int) -> float:
    deadline = time.monotonic() + _WAIT_S
    while (at := run.first_step(generation)) is None:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"generation {generation} did no step within {_WAIT_S:g} s")
        time.sleep(0.02)
    return at


def one_kill(run: Run, generation: int, rank: int) -> Restart:
    """Kill a rank of a generation that trains; returns once the next one does."""
    victim = run.pid(generation, rank)
    told = run.newest_step(generation)
    os.kill(victim, signal.SIGKILL)
    at = time.time()
    first = await_first_step(run, generation + 1)
    detected = next(
        float(r["t"]) for r in run.events() if r["type"] == records.RANK_ENDED and r.get("signal") and r["t"] >= at - 1
        and r["generation"] == generation and r["rank"] == rank
    )  # fmt: skip
    begun = next(
        r for r in run.journal() if r["type"] == records.GENERATION_STARTED and r["generation"] == generation + 1
    )
    resumed = int(str(begun["resumes"]).partition("-s")[2] or 0)
    return Restart(detected - at, float(begun["t"]) - at, first - at, max(0, told - resumed))


def kills(folder: Path, count: int, workers: int, *, zygote: bool) -> list[Restart]:
    with under_way(folder, workers, zygote=zygote) as run:
        found = []
        for generation in range(1, count + 1):
            await_first_step(run, generation)
            time.sleep(1.0)
            found.append(one_kill(run, generation, generation % workers))
        return found


def goodput(folder: Path, every_s: float, for_s: float, workers: int, *, zygote: bool) -> dict[str, Any]:
    """Kill a worker every so many seconds; the share of the time in which training went on."""
    with under_way(folder, workers, zygote=zygote) as run:
        generation = 1
        since = await_first_step(run, 1)
        lost, twice = 0.0, 0
        while time.time() + every_s < since + for_s:
            time.sleep(max(0.0, since + generation * every_s - time.time()))
            restart = one_kill(run, generation, generation % workers)
            lost += restart.first_step_s
            twice += restart.done_twice
            generation += 1
        whole = time.time() - since
        return {"kills": generation - 1, "seconds": whole, "goodput": 1 - lost / whole, "steps_done_twice": twice}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=0.0, help="seconds between two kills, for goodput")
    parser.add_argument("--for", dest="for_s", type=float, default=300.0, help="seconds that goodput is measured")
    parser.add_argument("--cold", action="store_true", help="goodput without forked workers")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    result: dict[str, Any]
    with tempfile.TemporaryDirectory(prefix="restart-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if asked.every:
            result = goodput(folder / "run", asked.every, asked.for_s, asked.workers, zygote=not asked.cold)
            print(
                f"{result['kills']} kills in {result['seconds']:.0f} s: goodput {result['goodput']:.1%}, "
                f"{result['steps_done_twice']} finished steps done twice"
            )
        else:
            result = {}
            for zygote in (True, False):
                label = "forked" if zygote else "cold"
                found = kills(folder / label, asked.kills, asked.workers, zygote=zygote)
                result[label] = [asdict(one) for one in found]
                _print(label, found)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _print(label: str, found: list[Restart]) -> None:
    def median(name: str) -> str:
        values = [getattr(one, name) for one in found]
        return f"{statistics.median(values):.2f} s (most {max(values):.2f})"

    print(
        f"{label:7} {len(found)} kills: seen after {median('detected_s')}, next generation begun after "
        f"{median('begun_s')}, its first step after {median('first_step_s')}; "
        f"{sum(one.done_twice for one in found)} finished steps done twice"
    )


if __name__ == "__main__":
    sys.exit(main())
