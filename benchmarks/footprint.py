"""What the launcher itself costs: `--help`, and memory and CPU of coordinator, agent and warden while training.

    python -m benchmarks.footprint [--seconds 20] [--rounds 3]

Memory is what the processes have for themselves and their share of what they share (Pss), summed over coordinator,
relay, agent and warden; the resident sizes (Rss), which count shared pages once for each, stand beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SPEC = """\
name: footprint
hosts: [{name: here, local: true, workers: 2, gpus: 0}]
train: {dataset: fashion-mnist-mini, epochs: 2000}
"""
LAUNCHER = [sys.executable, "-m", "launcher"]


def help_seconds(rounds: int) -> float:
    """The median wall time of `launcher --help`."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([*LAUNCHER, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def minders(run: Path) -> dict[str, psutil.Process]:
    """The processes that mind a run, by what they are."""
    ranks, found = set(), {}
    for line in (run / "events.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["type"] == "coordinator_started":
            found["coordinator"] = psutil.Process(record["pid"])
    for line in (run / "hosts/here/events.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["type"] == "agent_started":
            found["agent"] = psutil.Process(record["pid"])
            found["warden"] = psutil.Process(record["warden_pid"])
        elif record["type"] == "rank_started":
            ranks.add(record["pid"])
    for child in found["coordinator"].children():
        if child.pid not in ranks:
            found["relay"] = child
    return found


def wait_for_training(run_of: Path) -> Path:
    """The run's folder, once both workers have finished a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for journal in run_of.glob("*/hosts/here/events.jsonl"):
            if journal.read_text().count('"rank_first_step"') == 2:
                return journal.parents[2]
        time.sleep(0.1)
    sys.exit("the workers did not begin to train within two minutes")


def measure(seconds: float, folder: Path) -> None:
    """Train, look at the minders for so long, print, and stop the run."""
    spec = folder / "footprint.yaml"
    spec.write_text(SPEC)
    up = [*LAUNCHER, "up", str(spec), "--detach", "--set", f"coordinator.runs={folder}/runs"]
    subprocess.run(up, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = wait_for_training(folder / "runs")
    try:
        processes = minders(run)
        before = {name: process.cpu_times() for name, process in processes.items()}
        began = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        print(f"{'':14}{'Pss MB':>8}{'Rss MB':>8}{'CPU %':>8}   over {took:.0f} s of training")
        sums = [0.0, 0.0, 0.0]
        for name, process in processes.items():
            memory = process.memory_full_info()
            now, was = process.cpu_times(), before[name]
            cpu = 100 * (now.user + now.system - was.user - was.system) / took
            row = [memory.pss / 1e6, memory.rss / 1e6, cpu]
            sums = [a + b for a, b in zip(sums, row, strict=True)]
            print(f"{name:14}{row[0]:>8.1f}{row[1]:>8.1f}{row[2]:>8.2f}")
        print(f"{'together':14}{sums[0]:>8.1f}{sums[1]:>8.1f}{sums[2]:>8.2f}")
        mapped = {m.path for p in processes.values() for m in p.memory_maps() if "tensorflow" in m.path}
        print(f"TensorFlow in any of them: {'yes' if mapped else 'no'}")
    finally:
        subprocess.run([*LAUNCHER, "down", str(run), "--now"], check=False, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"launcher --help: {help_seconds(options.rounds):.3f} s (median of {options.rounds})")
    with tempfile.TemporaryDirectory(prefix="footprint-", ignore_cleanup_errors=True) as name:
        measure(options.seconds, Path(name))


if __name__ == "__main__":
    main()
