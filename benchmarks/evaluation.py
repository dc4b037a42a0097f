"""A whole test set evaluated by the trainer against `model.evaluate` in one process, at its best batch size.

python -m benchmarks.evaluation [--workers 1 2] [--rounds 9]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.contest import Contestant, contest, plain_job, table

BATCHES = (32, 128, 512, 1024, 2048, 5000)


def main() -> None:
    """Find the best batch size first, then compare with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, help="intra-op threads of each worker; default: 2 divided by workers")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    job = plain_job(options.dataset, 64, None)
    with tempfile.TemporaryDirectory(prefix="evaluation-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        plain = [Contestant(f"model.evaluate, batch {b}", lab={"plain_evaluate": b}) for b in BATCHES]
        rows = contest(plain, folder / "plain", job=job, rounds=3, amount=1)
        print(table(rows, "evaluations/s"), flush=True)
        best = plain[max(range(len(rows)), key=lambda place: rows[place].ratio)]
        ours = [
            Contestant(
                f"ours, {workers} worker{'s' if workers > 1 else ''}",
                workers,
                job={"threads": options.threads or max(1, 2 // workers)},
                lab={"do": "evaluate"},
            )
            for workers in options.workers
        ]
        print(table(contest([best, *ours], folder / "ours", job=job, rounds=options.rounds, amount=1), "evaluations/s"))


if __name__ == "__main__":
    main()
