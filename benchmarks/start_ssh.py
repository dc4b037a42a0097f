"""From `launcher up` to the first training step on hosts over SSH, against the same workers started by hand there.

    python -m benchmarks.start_ssh [--hosts 2] [--rounds 3] [--json FILE]

The hosts are sshds of this machine, and staged: a first `up` brought all that is needed. By hand means one `ssh` for
each rank, with the very argv and environment of the launcher's plan, all given at once. Both ways take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.first_step import BenchmarkError, Start, await_first_steps, end, tail
from benchmarks.hand_started import LAUNCHER
from benchmarks.many_hosts import cluster
from tests.lab.sshd import SshHosts, sshd_hosts
from worker.contract import names

JOB = "train: {dataset: fashion-mnist-mini, epochs: 200}"


def by_launcher(hosts: SshHosts, spec: Path, runs: Path, environ: dict[str, str]) -> tuple[Start, dict[str, Any]]:
    """`launcher up` until every rank has done a step, and its plan; then Ctrl-C twice."""
    runs.mkdir()
    log = runs / "up.log"
    command = [*LAUNCHER, "up", str(spec), "--plain", "--set", f"coordinator.runs={runs}"]
    with log.open("wb") as file:
        since = time.time()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, env=environ
        )
        try:
            start = await_first_steps(
                lambda: [path for run in runs.glob("far-*/") for path in _progress(hosts, run.name)],
                len(hosts),
                since,
                lambda: f"`up` ended with {process.returncode}:\n{tail(log)}" if process.poll() is not None else None,
            )
            plan = json.loads(next(runs.glob("*/plan.g1.json")).read_text())
        finally:
            end(process, signal.SIGINT, signal.SIGINT)
    return start, plan


def by_hand(hosts: SshHosts, plan: dict[str, Any], name: str) -> Start:
    """The plan's ranks by `ssh`, in folders of their own beside the launcher's; killed after their first step."""
    commands, files, pids = [], [], []
    for rank in plan["ranks"]:
        text = json.dumps(rank).replace(f"/launcher-work/{plan['run']}/", f"/launcher-work/{name}/")
        mine = json.loads(text)
        files.append(Path(mine["env"][names.PROGRESS_FILE]))
        for folder in [*(mine["env"].get(key) for key in ("TMPDIR", names.CHECKPOINT_DIR, names.OUTPUT_DIR))]:
            if folder:
                Path(folder).mkdir(parents=True, exist_ok=True)
        for folder in (mine["cwd"], files[-1].parent):
            Path(folder).mkdir(parents=True, exist_ok=True)
        pids.append(files[-1].with_suffix(".pid"))
        env = [f"{key}={value}" for key, value in mine["env"].items()]
        line = f"cd {shlex.quote(mine['cwd'])}; echo $$ > {shlex.quote(str(pids[-1]))}; exec env "
        commands.append(["ssh", "-F", str(hosts.config), mine["host"], line + shlex.join([*env, *mine["argv"]])])
    logs = [path.with_suffix(".log") for path in files]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(log.open("wb")) for log in logs]
        since = time.time()
        processes = []
        for command, file in zip(commands, opened, strict=True):
            processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file))
        try:
            return await_first_steps(lambda: files, len(files), since, lambda: _ended(processes, logs))
        finally:
            for process, pid in zip(processes, pids, strict=True):
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(pid.read_text()), signal.SIGKILL)
                process.wait(30)


def _ended(processes: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]) -> str | None:
    return next(
        (f"{log} ended:\n{tail(log)}" for process, log in zip(processes, logs, strict=True) if process.poll()), None
    )


def _progress(hosts: SshHosts, run: str) -> list[Path]:
    return [path for h in hosts for path in h.home.glob(f"launcher-work/{run}/{h.name}/g1/rank*.progress.jsonl")]


def compare(count: int, rounds: int) -> tuple[list[Start], list[Start]]:
    """(by hand, by the launcher), after a first `up` that is not counted."""
    hand: list[Start] = []
    ours: list[Start] = []
    with tempfile.TemporaryDirectory(prefix="start-ssh-", ignore_cleanup_errors=True) as folder_name:
        folder = Path(folder_name)
        (folder / "home").mkdir()
        environ = {**os.environ, "HOME": str(folder / "home"), "PYTHONDONTWRITEBYTECODE": ""}
        with sshd_hosts(folder / "hosts", count) as hosts:
            spec = cluster(folder, hosts, "paramiko", JOB)
            spec.write_text(spec.read_text().replace("name: many", "name: far"))
            _, plan = by_launcher(hosts, spec, folder / "first", environ)
            for turn in range(rounds):
                for way in ("hand", "ours") if turn % 2 == 0 else ("ours", "hand"):
                    if way == "hand":
                        hand.append(by_hand(hosts, plan, f"by-hand-{turn}"))
                    else:
                        ours.append(by_launcher(hosts, spec, folder / f"runs{turn}", environ)[0])
                print(f"round {turn + 1}: by hand {hand[-1].seconds:.2f} s, up {ours[-1].seconds:.2f} s", flush=True)
    return hand, ours


def main() -> None:
    """Compare, print, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(description="Time to the first step over SSH: `launcher up` against by hand.")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    hand, ours = compare(options.hosts, max(1, options.rounds))
    for what, starts in (("by hand", hand), ("launcher up", ours)):
        begun = statistics.median(start.marks["process"] for start in starts)
        first = statistics.median(start.seconds for start in starts)
        print(f"{what:12} workers' own start after {begun:.2f} s, first step of all ranks after {first:.2f} s")
    added = statistics.median(b.seconds - a.seconds for a, b in zip(hand, ours, strict=True))
    print(f"up adds {added:+.2f} s, the median of the rounds")
    if options.json:
        both = {"by_hand": [asdict(s) for s in hand], "launcher_up": [asdict(s) for s in ours]}
        options.json.write_text(json.dumps(both, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
