"""Which of several deaths was the cause. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.contract.states import RankState

# What a worker says of itself that makes it a victim: something else broke its collective.
VICTIM_REASONS = frozenset({"peer"})
_DIFFERS = re.compile(r"0x[0-9a-fA-F]+|\d+")  # addresses, pids, ports, times, the generation's folder
_MOST_TRACE = 8192
UNFIT_REASONS = frozenset({"data", "environment", "cluster"})

CHECK = "`launcher check` tells what that host lacks now"
RESUME = "`launcher resume` goes on from the newest checkpoint"
HINTS = {
    "SIGKILL": "nothing of this run sent it: out of memory is the usual reason (`dmesg | grep -i oom` tells)",
    "SIGSEGV": "a crash inside a native library; run the rank by hand: `launcher plan` prints its line",
    "SIGBUS": "a disk or /dev/shm that is full is the usual reason (`df -h`)",
}


@dataclass(frozen=True)
class RankEnd:
    """How one rank ended, as its agent wrote it down, with what the rank said of itself before."""

    rank: int
    host: str
    t: float
    state: str
    exit_code: int | None = None
    signal: str | None = None
    step: int | None = None
    trace: str = ""  # the traceback at the end of its log, without what differs from one life to the next
    failure: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        return str(self.failure.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.failure.get("message", ""))

    @property
    def how(self) -> str:
        """`SIGKILL`, `exit code 3`."""
        return self.signal or f"exit code {self.exit_code}"

    @property
    def told(self) -> str:
        """`rank 1 on b was killed by SIGKILL`, `rank 0 on a ended with exit code 3`."""
        verb = "was killed by" if self.signal else "ended with"
        return f"rank {self.rank} on {self.host} {verb} {self.how}"


def rank_end(host: str, record: Mapping[str, Any], failure: Mapping[str, Any] | None) -> RankEnd:
    """A RANK_ENDED record of a host's journal as a value; what it leaves out becomes None."""
    code, name = record.get("exit_code"), record.get("signal")
    if isinstance(name, int):
        name = signal.Signals(name).name
    return RankEnd(
        rank=int(record["rank"]),
        host=host,
        t=float(record.get("t", 0.0)),
        state=str(record.get("state", RankState.FAILED)),
        exit_code=code if isinstance(code, int) else None,
        signal=str(name) if name else None,
        step=record.get("step"),
        trace=str(record.get("trace", "")),
        failure=failure or {},
    )


def trace_of(lines: Sequence[str]) -> str:
    """The last traceback in a log's last lines, without what differs from one life to the next; "" if there is none."""
    begin = max((i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")), default=-1)
    if begin < 0:
        return ""
    return _DIFFERS.sub("#", "\n".join(lines[begin:]))[-_MOST_TRACE:]


def root_cause(ends: Sequence[RankEnd]) -> RankEnd | None:
    """The end that the others follow from, or None if nobody failed.

    A rank that was ended by its agent, stopped when asked to or left after a rescue is never the cause while another
    one failed by itself. Among those, one that died of its own accord goes before one that only says that a peer was
    lost; then the earliest. Where the workers did not agree, each says which rank differs: that one is the cause.
    """
    failed = [end for end in ends if end.state == RankState.FAILED]
    if not failed:
        failed = [end for end in ends if end.state == RankState.RESCUED]
    first = min(failed, key=lambda end: (end.reason in VICTIM_REASONS, end.t), default=None)
    differs = first.failure.get("differs") if first else None
    return next((end for end in failed if end.rank == differs and end.reason == "cluster"), first)


def explain(end: RankEnd) -> tuple[str, str]:
    """(what happened, what to do next) for the root cause."""
    if end.state == RankState.RESCUED:
        return (
            f"rank {end.rank} on {end.host} lost its peers although no worker is known to have died",
            "look at the network between the hosts",
        )
    hint = str(end.failure.get("hint", "")) or HINTS.get(end.signal or "", "")
    return end.told + (f": {end.message}" if end.message else ""), hint
