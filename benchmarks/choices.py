"""The trainer's choices, each against its alternatives, taking turns.

python -m benchmarks.choices [NAME ...] [--workers 2] [--batch-size 64] [--rounds 9] [--seconds 1]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.contest import Contestant, contest, plain_job, table

Choices = dict[str, Callable[[int], list[Contestant]]]


def _lab(name: str, **options: object) -> Callable[[int], Contestant]:
    return lambda workers: Contestant(name, workers, lab=options)


def _job(name: str, **settings: object) -> Callable[[int], Contestant]:
    return lambda workers: Contestant(name, workers, job=settings)


def _env(name: str, **env: str) -> Callable[[int], Contestant]:
    return lambda workers: Contestant(name, workers, env=env)


CHOICES: dict[str, list[Callable[[int], Contestant]]] = {
    "commit": [
        _lab("in a branch (ours)"),
        _lab("behind control dependencies", variant="dependencies"),
        _lab("ungated", variant="ungated"),
    ],
    "work": [
        _lab("0.5 s a call (ours)"),
        _lab("0.25 s", work_s=0.25),
        _lab("0.1 s", work_s=0.1),
        _lab("one step a call", work_s=1e-6),
    ],
    "gather": [_lab("gathered by index (ours)"), _lab("slices", variant="slices")],
    "inter_op": [_lab("1 thread for ops (ours)"), _lab("2", inter_op=2), _lab("4", inter_op=4)],
    "threads": [_job("1 thread", threads=1), _job("2", threads=2), _job("TensorFlow's default", threads=None)],
    "communication": [_job("auto (ours)"), _job("ring", communication="ring")],
    "talk": [
        _lab("one exchange (ours)"),
        _lab("one ring", ring=True),
        _lab("nothing is sent", ring=True, variant="alone"),
        _lab("a ring, the last gradients first", ring=True, variant="last_first"),
        _lab("a ring, one flat vector", ring=True, variant="one_flat"),
        _lab("rings of 128 KiB", ring=True, bytes_per_pack=1 << 17),
        _lab("a ring, and two threads for ops", ring=True, inter_op=2),
    ],
    "workers": [
        lambda _: Contestant("1 worker of 2 threads", 1, job={"threads": 2}),
        lambda _: Contestant("2 workers of 1 thread", 2, job={"threads": 1}),
        lambda _: Contestant("4 workers of 1 thread", 4, job={"threads": 1}),
        lambda _: Contestant("1 worker, 2 replicas", 1, job={"threads": 2}, lab={"replicas": 2}),
        lambda _: Contestant("1 worker, 4 replicas", 1, job={"threads": 2}, lab={"replicas": 4}),
        lambda _: Contestant("2 workers, 2 replicas each", 2, job={"threads": 1}, lab={"replicas": 2}),
    ],
    "spinning": [
        _lab("idle threads spin (TensorFlow's default)"),
        _lab("they sleep", spinning=False),
        lambda _: Contestant("1 worker of 2 threads", 1, job={"threads": 2}),
        lambda _: Contestant("1 worker of 2 threads, they sleep", 1, job={"threads": 2}, lab={"spinning": False}),
    ],
    "malloc": [_lab("glibc's default (ours)"), _env("memory is kept", MALLOC_TRIM_THRESHOLD_="8589934592")],
    "fused": [_lab("Keras's Adam (ours)"), _lab("fused kernel", fused=True)],
    "xla": [_lab("without (ours)"), _lab("model compiled by XLA", jit=True)],
}


def main() -> None:
    """Measure the choices that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of each worker")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    options = parser.parse_args()
    job = plain_job(options.dataset, options.batch_size, options.threads)
    for name in options.names or CHOICES:
        contestants = [make(options.workers) for make in CHOICES[name]]
        with tempfile.TemporaryDirectory(prefix="choices-", ignore_cleanup_errors=True) as place:
            rows = contest(
                contestants,
                Path(place),
                job=job,
                seconds=options.seconds,
                rounds=options.rounds,
                count=options.batch_size,
            )
        print(f"\n{name}\n\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
