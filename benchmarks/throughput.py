"""Images per second and test accuracy: `launcher up` with two workers against the plain one-process script.

    python -m benchmarks.throughput [--seeds 0 1 2] [--epochs 5] [--dataset fashion-mnist] [--json FILE]
    python -m benchmarks.throughput --precision float32 mixed_bfloat16 [--no-plain]

For every seed both train in turn, the order changing from seed to seed. An epoch's speed counts the images and the time
of training, without validation; the first epoch, which holds the tracing, is left out. Ratios are taken within a
seed, and their medians are told.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SPEC = """\
name: throughput
hosts: [{{name: here, local: true, workers: {workers}, gpus: {gpus}}}]
train: {{dataset: {dataset}, epochs: {epochs}, batch_size: {batch_size}, seed: {seed}, precision: {precision}}}
"""


Way = tuple[int, str]  # workers and precision


@dataclass(frozen=True)
class Result:
    """One training: images/s of each epoch after the first, and the accuracy on the test set at the end."""

    what: str
    seed: int
    images_per_second: tuple[float, ...]
    test_accuracy: float

    @property
    def speed(self) -> float:
        return statistics.median(self.images_per_second)


def plain(options: argparse.Namespace, seed: int, folder: Path) -> Result:
    """The script that every tutorial has."""
    out = folder / f"plain-{seed}.json"
    command = [sys.executable, "-m", "benchmarks.plain_fit", "--dataset", options.dataset, "--json", str(out)]
    command += ["--epochs", str(options.epochs), "--batch-size", str(options.batch_size), "--seed", str(seed)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told = json.loads(out.read_text())
    return result("plain script, 1 process", seed, told)


def launched(options: argparse.Namespace, seed: int, folder: Path, way: Way) -> Result:
    """The same job by `launcher up`."""
    workers, precision = way
    spec = folder / f"launched-{workers}-{precision}-{seed}.yaml"
    spec.write_text(SPEC.format(**{**vars(options), "workers": workers, "seed": seed, "precision": precision}))
    place = folder / f"runs-{workers}-{precision}-{seed}"
    launcher = [sys.executable, "-m", "launcher"]
    command = [*launcher, "up", str(spec), "--plain", "--set", f"coordinator.runs={place}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (run,) = [path.parent for path in place.glob("*/events.jsonl")]
    report = subprocess.run([*launcher, "report", str(run), "--json"], check=True, capture_output=True)
    what = f"launcher up, {workers} worker{'s' if workers > 1 else ''}"
    if precision != "float32":
        what += f", {precision}"
    return result(what, seed, json.loads(report.stdout))


def result(what: str, seed: int, told: dict[str, Any]) -> Result:
    """From the numbers that a training wrote."""
    speeds = tuple(float(epoch["images_per_second"]) for epoch in told["epochs"])
    return Result(what, seed, speeds[1:] or speeds, float(told["test_accuracy"]))


def table(results: list[Result]) -> str:
    """A line for each way: median images/s, the median ratio to the first, and the mean accuracy over the seeds."""
    ways = list(dict.fromkeys(result.what for result in results))
    speeds = {way: statistics.median(r.speed for r in results if r.what == way) for way in ways}
    accuracies = {way: statistics.mean(r.test_accuracy for r in results if r.what == way) for way in ways}
    base = next((way for way in ways if way.startswith("plain")), min(ways, key=len))
    lines = [f"{'':42}{'images/s':>10}{'ratio':>8}{'test accuracy':>16}{'difference':>12}"]
    for way in ways:
        lines.append(
            f"{way:42}{speeds[way]:>10.0f}{_ratio(results, way, base):>8.3f}"
            f"{accuracies[way]:>16.4f}{100 * (accuracies[way] - accuracies[base]):>+9.2f} pt"
        )
    return "\n".join(lines)


def _ratio(results: list[Result], way: str, base: str) -> float:
    """The median over the seeds of how fast a way was against the base on the same seed."""
    speed = {(result.what, result.seed): result.speed for result in results}
    return statistics.median(speed[way, seed] / speed[base, seed] for what, seed in speed if what == way)


def main() -> None:
    """Train, print every result as it comes, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--precision", nargs="+", default=["float32"])
    parser.add_argument("--no-plain", action="store_true", help="compare the launcher's own ways only")
    parser.add_argument("--gpus", default="0", help="GPUs of the host in the spec: 0 for none, or all")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="throughput-") as name:
        folder = Path(name)
        for turn, seed in enumerate(options.seeds):
            ways: list[Way | None] = [] if options.no_plain else [None]
            ways += itertools.product(options.workers, options.precision)
            for way in ways if turn % 2 == 0 else reversed(ways):
                one = plain(options, seed, folder) if way is None else launched(options, seed, folder, way)
                results.append(one)
                print(
                    f"seed {seed}: {one.what}: {one.speed:.0f} images/s, accuracy {one.test_accuracy:.4f}", flush=True
                )
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
