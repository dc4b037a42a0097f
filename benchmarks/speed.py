"""Images per second of every way to train this CNN on one machine, in turn, in one table.

    python -m benchmarks.speed [--batch-size 64] [--rounds 3] [--epochs 3] [--tf-keras FOLDER] [--json FILE]

The plain one-process script with model.fit; `launcher up` with one worker and with several; and two hand-started
workers with tf_keras' `fit`, if tf_keras can be imported (`pip install --no-deps --target FOLDER tf_keras`). Every
round runs all of them, the order turning; an epoch's speed is that of its training, and the first epoch, which holds
the tracing, is left out. Ratios are taken within a round, and their medians are told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks.throughput import Result, launched, plain, result
from tests.integration.training import free_ports

Way = Callable[[int, Path], Result]
PLAIN = "plain script, 1 process"
TF_KERAS = "tf_keras fit, 2 workers"
LONGEST_S = 1800


def by_tf_keras(options: argparse.Namespace, round_: int, folder: Path) -> Result:
    """Two workers started by hand, as the tutorial says."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    out = [folder / f"tf-keras-{round_}-{rank}.json" for rank in range(2)]
    path = os.pathsep.join(p for p in (options.tf_keras, os.environ.get("PYTHONPATH")) if p)
    with ExitStack() as stack:
        processes = []
        for rank in range(2):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            log = stack.enter_context((folder / f"tf-keras-{round_}-{rank}.log").open("wb"))
            line = [sys.executable, "-m", "benchmarks.tf_keras_fit", "--dataset", options.dataset]
            line += ["--epochs", str(options.epochs), "--batch-size", str(options.batch_size), "--json", str(out[rank])]
            env = {**os.environ, "TF_CONFIG": json.dumps(config), "PYTHONPATH": path}
            process = subprocess.Popen(line, env=env, stdout=log, stderr=log)
            stack.callback(process.kill)
            processes.append(process)
        for rank, process in enumerate(processes):
            if process.wait(LONGEST_S):
                sys.exit(f"tf_keras failed:\n{(folder / f'tf-keras-{round_}-{rank}.log').read_text()[-2000:]}")
    return result(TF_KERAS, round_, json.loads(out[0].read_text()))


def ways(options: argparse.Namespace) -> list[Way]:
    """Every way that can be taken here; the plain script comes first."""
    found: list[Way] = [lambda round_, folder: plain(options, round_, folder)]
    for workers in options.workers:
        found.append(lambda round_, folder, workers=workers: launched(options, round_, folder, (workers, "float32")))  # type: ignore[misc]
    environment = {**os.environ, "PYTHONPATH": options.tf_keras or os.environ.get("PYTHONPATH", "")}
    probe = [sys.executable, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('tf_keras') is None)"]
    if subprocess.run(probe, env=environment, check=False).returncode == 0:
        found.append(lambda round_, folder: by_tf_keras(options, round_, folder))
    else:
        print("tf_keras is not there: its row is left out (see --help)", file=sys.stderr)
    return found


def table(results: Sequence[Result]) -> str:
    """A line for each way: median images/s, and the median of its ratios to every other way in the same round."""
    names = list(dict.fromkeys(one.what for one in results))
    speed = {(one.what, one.seed): one.speed for one in results}
    rounds = sorted({one.seed for one in results})
    lines = ["| | images/s | test accuracy | " + " | ".join(f"÷ {name}" for name in names) + " |"]
    lines.append("|---" * (3 + len(names)) + "|")
    for name in names:
        ratios = [statistics.median(speed[name, r] / speed[other, r] for r in rounds) for other in names]
        accuracy = statistics.mean(one.test_accuracy for one in results if one.what == name)
        median = statistics.median(speed[name, r] for r in rounds)
        cells = [f"{median:,.0f}", f"{accuracy:.4f}", *(f"{ratio:.2f}" for ratio in ratios)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train in every way, round after round; every result is printed as it comes, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--gpus", default="0", help="GPUs of each host in the spec: 0 for none, or all")
    parser.add_argument("--tf-keras", default="", metavar="FOLDER", help="where tf_keras is, if not installed")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="speed-", ignore_cleanup_errors=True) as name:
        all_ways = ways(options)
        for round_ in range(options.rounds):
            turned = all_ways if round_ % 2 == 0 else all_ways[::-1]
            for way in turned:
                results.append(way(round_, Path(name)))
                print(f"round {round_ + 1}: {results[-1].what}: {results[-1].speed:.0f} images/s", flush=True)
    results.sort(key=lambda one: (one.seed, one.what != PLAIN, one.what == TF_KERAS, one.what))
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
