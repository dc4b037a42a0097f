"""From the command to the first training step: a cold `up`, and a second one that finds its hosts kept warm.

    python -m benchmarks.keep_warm [--rounds 5] [--workers 2] [--spec FILE] [--json FILE]

Each round runs `launcher up` twice with `restart: {keep_warm: 10 min}`: the first finds nothing, the second what the
first has left. Then that is ended (`launcher down`), so that the next round is cold again. With `--spec` any cluster is
measured, over SSH for example that of `make lab`; its runs are short if its training is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.first_step import BenchmarkError, read_records
from benchmarks.hand_started import LAUNCHER
from worker.contract import records

SPEC = """name: keep-warm
hosts: [{{name: here, local: true, workers: {workers}}}]
train: {{dataset: fashion-mnist-mini, epochs: 1, batch_size: 512}}
"""
_UP_S = 300.0


def up(spec: Path, runs: Path) -> tuple[Path, float]:
    """One run to its end: its folder, and how long its first step took from the command on."""
    before = set(runs.glob("*"))
    settings = (f"coordinator.runs={runs}", "restart.keep_warm=10 min")
    _launcher("up", str(spec), "--plain", *(word for one in settings for word in ("--set", one)))
    (run,) = set(runs.glob("*")) - before
    told = json.loads(_launcher("report", str(run), "--no-pictures", "--json"))
    return run, float(told["time_to_first_step_s"])


def adopted(run: Path) -> bool:
    """Whether every host of the run took up what another one had kept."""
    journals = list(run.glob("hosts/*/events.jsonl"))
    return all(any(r["type"] == records.ZYGOTE_ADOPTED for r in read_records(path)) for path in journals)


def one_round(spec: Path, runs: Path) -> tuple[float, float]:
    """(cold, warm), in seconds."""
    cold_run, cold_s = up(spec, runs)
    warm_run, warm_s = up(spec, runs)
    _launcher("down", str(warm_run))
    if adopted(cold_run) or not adopted(warm_run):
        raise BenchmarkError(f"the second run did not find its hosts warm, or the first did: see {runs}")
    return cold_s, warm_s


def _launcher(*words: str) -> str:
    done = subprocess.run([*LAUNCHER, *words], capture_output=True, text=True, timeout=_UP_S, check=False)
    if done.returncode:
        raise BenchmarkError(f"launcher {words[0]} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keep-warm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "cluster.yaml").write_text(SPEC.format(workers=asked.workers))
        (folder / "runs").mkdir()
        try:
            found = [one_round(asked.spec or folder / "cluster.yaml", folder / "runs") for _ in range(asked.rounds)]
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
    result: dict[str, Any] = {"cold_s": [cold for cold, _ in found], "warm_s": [warm for _, warm in found]}
    cold, warm = statistics.median(result["cold_s"]), statistics.median(result["warm_s"])
    for label, seconds in result.items():
        told = ", ".join(f"{one:.2f}" for one in sorted(seconds))
        print(f"{label.removesuffix('_s'):5} first step after {statistics.median(seconds):.2f} s (median of {told})")
    print(f"warm is {warm / cold:.2f} x cold")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
