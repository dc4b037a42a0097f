"""From the start of a worker's process to its first finished step, phase by phase.

python -m benchmarks.phases [--workers 1 2] [--rounds 3] [--batch-size 64]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.contest import plain_job
from tests.integration.training import Cluster, cluster
from worker.contract import records

FIRST_STEP = "first_step"


def phases(run: Cluster, began: float) -> dict[str, float]:
    """Seconds of each phase of the chief, what is between them, and all of it."""
    told = run[0].wait_for(records.PHASE, name=FIRST_STEP)
    found = {record["name"]: float(record["seconds"]) for record in run[0].told(records.PHASE)}
    whole = float(told["t"]) - began
    return {**found, "between": whole - sum(found.values()), "in all": whole}


def main() -> None:
    """Start so many times, in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dataset", default="fashion-mnist")
    options = parser.parse_args()
    job = plain_job(options.dataset, options.batch_size, 1)
    found: dict[int, list[dict[str, float]]] = {workers: [] for workers in options.workers}
    with tempfile.TemporaryDirectory(prefix="phases-", ignore_cleanup_errors=True) as name:
        for round_ in range(options.rounds):
            for workers in options.workers:
                began = time.time()
                with cluster(Path(name) / f"{round_}-{workers}", job, workers=workers) as run:
                    found[workers].append(phases(run, began))
    print("| seconds | " + " | ".join(f"{w} worker{'s' if w > 1 else ''}" for w in found) + " |")
    print("|---" * (1 + len(found)) + "|")
    for phase in found[options.workers[0]][0]:
        medians = [statistics.median(one[phase] for one in ones) for ones in found.values()]
        print(f"| {phase} | " + " | ".join(f"{seconds:.2f}" for seconds in medians) + " |")


if __name__ == "__main__":
    main()
