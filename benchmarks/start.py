"""From `launcher up` to the first training step, against the same workers started by hand.

    python -m benchmarks.start [cluster.yaml] [--rounds 3] [--json FILE]

Both are started in turn, the order changing from round to round, and medians are compared. The table shows when each
phase was over, so that it can be seen where the rest goes.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.first_step import BenchmarkError, Start, await_first_steps, end, medians, read_records, tail
from benchmarks.hand_started import LAUNCHER, planned_ranks, start_by_hand
from worker.contract import records

# What happens before a trainer's process begins, as the journals of coordinator and agents tell it.
_JOURNALED = (
    records.RUN_CREATED,
    records.COORDINATOR_STARTED,
    records.AGENT_STARTED,
    records.GENERATION_STARTED,
    records.RANK_STARTED,
)


def start_by_launcher(spec: Path, runs: Path, count: int, launcher: Sequence[str] = LAUNCHER) -> Start:
    """`launcher up`, until each of `count` ranks has done its first step; then Ctrl-C."""
    runs.mkdir(parents=True, exist_ok=True)
    log = runs / "up.log"
    command = [*launcher, "up", str(spec), "--plain", "--set", f"coordinator.runs={runs}"]
    with log.open("wb") as file:
        since = time.time()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
        try:
            start = await_first_steps(
                lambda: sorted(runs.glob("*/hosts/*/g1/rank*.progress.jsonl")),
                count,
                since,
                lambda: f"`up` ended with {process.returncode}:\n{tail(log)}" if process.poll() is not None else None,
            )
        finally:
            # Once is graceful, twice at once; the run is over when `up` is.
            stopped = end(process, signal.SIGINT, signal.SIGINT)
    if not stopped:
        raise BenchmarkError("the run did not end on two Ctrl-C; `launcher ps --kill` ends what is left of it")
    for journal in [*runs.glob("*/events.jsonl"), *runs.glob("*/hosts/*/events.jsonl")]:
        for record in read_records(journal):
            if record["type"] in _JOURNALED:
                name = str(record["type"])
                start.marks[name] = max(start.marks.get(name, 0.0), float(record["t"]) - since)
    return start


def compare(spec: Path, rounds: int, launcher: Sequence[str] = LAUNCHER) -> tuple[list[Start], list[Start]]:
    """So many starts by hand and by the launcher, in turn."""
    by_hand: list[Start] = []
    by_launcher: list[Start] = []
    with tempfile.TemporaryDirectory(prefix="start-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        count = len(planned_ranks(spec, folder / "count", launcher))
        for turn in range(rounds):

            def hand(turn: int = turn) -> None:
                by_hand.append(start_by_hand(planned_ranks(spec, folder / f"hand{turn}", launcher)))

            def ours(turn: int = turn) -> None:
                by_launcher.append(start_by_launcher(spec, folder / f"up{turn}", count, launcher))

            for start in (hand, ours) if turn % 2 == 0 else (ours, hand):
                start()
            print(f"round {turn + 1}: by hand {by_hand[-1].seconds:.2f} s, up {by_launcher[-1].seconds:.2f} s")
    return by_hand, by_launcher


def table(hand: Start, ours: Start) -> str:
    """When each phase was over, both ways, in the order of the launcher's."""
    names = sorted({*hand.marks, *ours.marks}, key=lambda name: ours.marks.get(name, hand.marks.get(name, 0.0)))
    rows = [("seconds after the command", "by hand", "launcher up", "difference")]
    for name in names:
        a, b = hand.marks.get(name), ours.marks.get(name)
        rows.append((name, _number(a), _number(b), "" if a is None or b is None else f"{b - a:+.2f}"))
    rows.append(("first step of all ranks", _number(hand.seconds), _number(ours.seconds), ""))
    lines = [f"{row[0]:26}{row[1]:>10}{row[2]:>14}{row[3]:>12}" for row in rows]
    return "\n".join([*lines, f"ratio: {ours.seconds / hand.seconds:.3f} (at most 1.1 is wanted)"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def main() -> None:
    """Compare, print the table, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(description="Time to the first step: `launcher up` against a start by hand.")
    parser.add_argument("spec", type=Path, nargs="?", default=Path("cluster.yaml"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    by_hand, by_launcher = compare(options.spec, max(1, options.rounds))
    print(table(medians(by_hand), medians(by_launcher)))
    if options.json:
        both = {"by_hand": [asdict(s) for s in by_hand], "launcher_up": [asdict(s) for s in by_launcher]}
        options.json.write_text(json.dumps(both, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
