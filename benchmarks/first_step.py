"""From a command to the first training step: what was waited for, read from the records that workers leave."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.contract import records

DEADLINE_S = 180.0


class BenchmarkError(Exception):
    """Something was not measured; the message says what to look at."""


@dataclass(frozen=True)
class Start:
    """One start. Times are seconds since its command; `marks` says when each phase was over, for the slowest rank."""

    first_step_s: tuple[float, ...]  # by rank
    marks: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Until the last rank had done its first step."""
        return max(self.first_step_s)


def read_records(path: Path) -> list[records.Record]:
    """The whole records of a journal or progress file; none if it is not there yet."""
    try:
        return records.parse(path.read_bytes())[0]
    except FileNotFoundError:
        return []


def first_step(progress: Iterable[records.Record], since: float) -> float | None:
    """When a rank's first step was done, in seconds since the command."""
    for record in progress:
        if record["type"] == records.PHASE and record.get("name") == "first_step":
            return float(record["t"]) - since
    return None


def await_first_steps(
    find: Callable[[], Sequence[Path]], count: int, since: float, ended: Callable[[], str | None]
) -> Start:
    """Wait until `count` progress files, looked for with `find`, tell of a first step.

    `ended` says why nothing more is to be expected, or None. Raises BenchmarkError on that, or after DEADLINE_S.
    """
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        why = ended()  # asked before the files are read: what was written before an end still counts
        told = [read_records(path) for path in find()]
        steps = [step for progress in told if (step := first_step(progress, since)) is not None]
        if len(steps) == count:
            return Start(tuple(steps), phases(told, since))
        if why is not None:
            raise BenchmarkError(why)
        # The times are the workers' own; this only decides how soon they are noticed.
        time.sleep(0.05)
    raise BenchmarkError(f"not every rank had done a first step after {DEADLINE_S:g} s")


def phases(told: Iterable[Sequence[records.Record]], since: float) -> dict[str, float]:
    """When each phase was over in the slowest rank; `process` is when the trainer began with its first one."""
    marks: dict[str, float] = {}
    for progress in told:
        seen = [r for r in progress if r["type"] == records.PHASE and isinstance(r.get("name"), str)]
        ends = [(str(record["name"]), float(record["t"]) - since) for record in seen]
        begins = [float(record["t"]) - since - float(record.get("seconds") or 0) for record in seen]
        for name, end in [("process", min(begins, default=0.0)), *ends]:
            marks[name] = max(marks.get(name, 0.0), end)
    return marks


def medians(starts: Sequence[Start]) -> Start:
    """The median of each number over several starts. A mark counts where it was seen."""
    names = sorted({name for start in starts for name in start.marks})
    return Start(
        first_step_s=tuple(statistics.median(times) for times in zip(*(s.first_step_s for s in starts), strict=True)),
        marks={name: statistics.median([s.marks[name] for s in starts if name in s.marks]) for name in names},
    )


def end(process: subprocess.Popen[bytes], *signals: signal.Signals, patience_s: float = 30.0) -> bool:
    """End a process that leads its own group: each signal in turn to it alone, at last SIGKILL to the group.

    True if a signal of those given was enough.
    """
    for number in signals:
        if process.poll() is not None:
            break
        process.send_signal(number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is not None:
        return True
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return False


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
