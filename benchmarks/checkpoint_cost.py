"""What exactness costs: each promise of the trainer against the trainer without it, taking turns.

python -m benchmarks.checkpoint_cost [--workers 2] [--batch-size 64] [--rounds 9] [--seconds 2]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.contest import Contestant, Row, contest, plain_job

# What costs, what it is compared with, and how much of the speed it may take.
_EACH_SECOND = {"checkpoint": {"every_epochs": None, "every_steps": None, "every_seconds": 1}}


def comparisons(workers: int) -> list[tuple[str, Contestant, Contestant, float]]:
    """The promise, the trainer without it, with it, and the most that it may cost."""
    ours = Contestant("with", workers)
    return [
        ("deterministic", Contestant("without", workers, job={"deterministic": False}), ours, 0.02),
        (
            "a checkpoint each second",
            Contestant("without", workers),
            Contestant("with", workers, job=_EACH_SECOND),
            0.03,
        ),
        ("progress and history", Contestant("without", workers, lab={"quiet": True}), ours, 0.01),
        ("rescue-ready steps", Contestant("without", workers, lab={"variant": "ungated"}), ours, 0.01),
    ]


def main() -> None:
    """Measure one promise after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of each worker")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn")
    options = parser.parse_args()
    job = plain_job(options.dataset, options.batch_size, options.threads)
    print("| promise | cost | quartiles | processor time | at most |\n|---|---|---|---|---|")
    for number, (name, without, with_, most) in enumerate(comparisons(options.workers)):
        with tempfile.TemporaryDirectory(prefix="cost-", ignore_cleanup_errors=True) as place:
            rows = contest(
                [without, with_],
                Path(place) / str(number),
                job=job,
                seconds=options.seconds,
                rounds=options.rounds,
                count=options.batch_size,
            )
        print(line(name, rows[1], most), flush=True)


def line(name: str, row: Row, most: float) -> str:
    """A row of the table; cost is the part of the speed that is lost."""
    low, high = 1 - row.spread[1], 1 - row.spread[0]
    return f"| {name} | {1 - row.ratio:+.1%} | {low:+.1%} to {high:+.1%} | {row.work - 1:+.1%} | {most:.0%} |"


if __name__ == "__main__":
    main()
