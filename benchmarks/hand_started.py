"""Two (or however many) workers started by hand: the trainer's processes as the plan has them, and nothing around them.

    python -m benchmarks.hand_started [cluster.yaml]

The lines are those of `launcher plan --json`; asking for them is not part of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.first_step import BenchmarkError, Start, await_first_steps, end, tail
from worker.contract import names

LAUNCHER = (sys.executable, "-m", "launcher")
Rank = dict[str, Any]


def planned_ranks(spec: Path, runs: Path, launcher: Sequence[str] = LAUNCHER) -> list[Rank]:
    """What `launcher plan --json` says of each rank, with run folders under `runs`."""
    command = [*launcher, "plan", str(spec), "--json", "--set", f"coordinator.runs={runs}"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise BenchmarkError(f"`launcher plan` failed:\n{done.stderr}")
    ranks: list[Rank] = json.loads(done.stdout)["ranks"]
    if not all(rank["known"] for rank in ranks):
        raise BenchmarkError("only clusters on this machine can be started by hand from here")
    return ranks


def start_by_hand(ranks: Sequence[Rank]) -> Start:
    """Start every rank as a plain process, wait for each one's first step, and end them."""
    logs = []
    for rank in ranks:
        progress = Path(rank["env"][names.PROGRESS_FILE])
        folders = [rank["env"].get(name) for name in ("TMPDIR", names.CHECKPOINT_DIR, names.OUTPUT_DIR)]
        for folder in [*folders, rank["cwd"], progress.parent]:
            if folder:
                Path(folder).mkdir(parents=True, exist_ok=True)
        logs.append(progress.with_suffix(".log"))

    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        since = time.time()
        for rank, log in zip(ranks, logs, strict=True):
            file = stack.enter_context(log.open("wb"))
            process = subprocess.Popen(
                rank["argv"],
                cwd=rank["cwd"],
                env={**os.environ, **rank["env"]},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            # Not asked to stop first: each would wait for the other, and nothing that they made is kept.
            stack.callback(end, process, signal.SIGKILL)
            processes.append(process)

        def ended() -> str | None:
            for rank, process, log in zip(ranks, processes, logs, strict=True):
                if process.poll() is not None:
                    return f"rank {rank['rank']} ended with {process.returncode}:\n{tail(log)}"
            return None

        files = [Path(rank["env"][names.PROGRESS_FILE]) for rank in ranks]
        return await_first_steps(lambda: files, len(files), since, ended)


def main() -> None:
    """Start them once and print the times."""
    parser = argparse.ArgumentParser(description="Time to the first step of workers that are started by hand.")
    parser.add_argument("spec", type=Path, nargs="?", default=Path("cluster.yaml"))
    spec = parser.parse_args().spec
    with tempfile.TemporaryDirectory(prefix="hand-started-") as folder:
        start = start_by_hand(planned_ranks(spec, Path(folder)))
    for rank, seconds in enumerate(start.first_step_s):
        print(f"rank {rank}: first step after {seconds:.2f} s")
    for name, seconds in sorted(start.marks.items(), key=lambda mark: mark[1]):
        print(f"  {name:12} {seconds:6.2f} s")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
