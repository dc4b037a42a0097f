"""Which of several deaths was the cause. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from worker.contract.standing import ranks_told
from worker.contract.states import RankState

# What a worker says of itself that makes it a victim: something else broke its collective.
VICTIM_REASONS = frozenset({"peer"})
_DIFFERS = re.compile(r"0x[0-9a-fA-F]+|\d+")  # addresses, pids, ports, times, the generation's folder
_MOST_TRACE = 8192
_MOST_TOLD = 3
# The errors that TensorFlow raises in a program's rank when another one is gone.
_VICTIMS_TRACE = re.compile(r"\b(Unavailable|DeadlineExceeded|Cancelled|Aborted)Error\b")
SEEN_S = 0.1  # an agent sees an exit at once; busy, a little later
READ_S = 0.3  # what a rank writes of its own failure is read a few times a second
APART_S = 0.05  # ends that one agent saw are in order, unless they were found in one turn
UNFIT_REASONS = frozenset({"data", "environment", "cluster"})

CHECK = "`launcher check` tells what that host lacks now"
RESUME = "`launcher resume` goes on from the newest checkpoint"
NETWORK = "look at the network between the hosts"
OUT_OF_MEMORY = "lower batch_size, run fewer workers on that host, or take one with more memory"
HINTS = {
    "SIGKILL": "out of memory is the usual reason, though no record that could be read says so (`dmesg | grep -i oom`)",
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
    raised: str = ""  # the last line of that, by its agent's word: the log may not be home yet
    failure: Mapping[str, Any] = field(default_factory=dict)
    doubt_s: float = 0.0  # by how much its host's clock may be off from ours
    oom: str = ""  # where the kernel has written down that it ended it for want of memory
    memory: str = ""  # what was taken of what there is, shortly before

    @property
    def earliest(self) -> float:
        """When it may have happened at the earliest, by our clock."""
        return self.t - (SEEN_S if self.signal else READ_S) - self.doubt_s

    @property
    def latest(self) -> float:
        """And at the latest: what was written down had happened."""
        return self.t + self.doubt_s

    @property
    def error(self) -> str:
        """What it says of an error of its own, by which that is known again; empty for a signal and without a word."""
        said = self.trace or self.message
        return f"{self.exit_code} {said}" if self.exit_code is not None and said else ""

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
    told = float((failure or {}).get("t") or "inf")  # it may have taken a while to leave
    if isinstance(name, int):
        name = signal.Signals(name).name
    return RankEnd(
        rank=int(record["rank"]),
        host=host,
        t=min(float(record.get("t", 0.0)), told),
        state=str(record.get("state", RankState.FAILED)),
        exit_code=code if isinstance(code, int) else None,
        signal=str(name) if name else None,
        step=record.get("step"),
        trace=str(record.get("trace", "")),
        raised=str(record.get("raised") or ""),
        failure=failure or {},
        doubt_s=float(record.get("doubt_s", 0.0)),
        oom=str(record.get("oom") or ""),
        memory=str(record.get("memory") or ""),
    )


def trace_of(lines: Sequence[str]) -> str:
    """The last traceback in a log's last lines, without what differs from one life to the next; "" if there is none."""
    begin = max((i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")), default=-1)
    if begin < 0:
        return ""
    return _DIFFERS.sub("#", "\n".join(lines[begin:]))[-_MOST_TRACE:]


class Kind(IntEnum):
    """How much an end says of itself. The lower ones come before the higher ones where times cannot tell."""

    OWN = 0  # a signal, a traceback or a failure of its own
    MUTE = 1  # an exit code, and no word
    VICTIM = 2  # it says that its peers are gone: something else broke its collective


def kind_of(end: RankEnd) -> Kind:
    """By what the rank, its log and the kernel say. `Unavailable`, `Deadline` and the like are a victim's words."""
    if end.reason in VICTIM_REASONS or end.state == RankState.RESCUED:
        return Kind.VICTIM
    if end.signal or end.reason:
        return Kind.OWN
    if _VICTIMS_TRACE.search(end.raised or end.trace):
        return Kind.VICTIM
    return Kind.OWN if end.raised or end.trace else Kind.MUTE


@dataclass(frozen=True)
class Found:
    """The end from which the others follow. `also`: ends that may as well have been the first."""

    end: RankEnd
    also: tuple[RankEnd, ...] = ()

    @property
    def all(self) -> tuple[RankEnd, ...]:
        return self.end, *self.also

    @property
    def same(self) -> bool:
        """Whether all of them say the same error of their own, so that which was the first makes no difference."""
        return len({one.error for one in self.all}) == 1 and bool(self.end.error)

    @property
    def error(self) -> str:
        """By what the failure is known again, whoever is taken for the first; empty if it is not the program's own."""
        errors = [one.error if kind_of(one) < Kind.VICTIM else "" for one in self.all]
        return " | ".join(sorted(set(errors))) if all(errors) else ""


def root_cause(ends: Sequence[RankEnd]) -> Found | None:
    """The end that the others follow from, or None if nobody failed.

    A rank that was ended by its agent, stopped when asked to or left after a rescue is never the cause while another
    one failed by itself, and one that only says that it lost a peer is not while another died of its own accord. Among
    the rest it is the first, by times that are intervals: clocks are known within bounds only. Where intervals overlap
    the kind decides; what that leaves is undetermined, and `also` has it. Where the workers did not agree, each says
    which rank differs: that one is the cause.
    """
    failed = [end for end in ends if end.state == RankState.FAILED]
    if not failed:
        failed = [end for end in ends if end.state == RankState.RESCUED]
    if not failed:
        return None
    differs = next((end.failure.get("differs") for end in sorted(failed, key=_order) if end.reason == "cluster"), None)
    differing = next((end for end in failed if end.rank == differs and end.reason == "cluster"), None)
    if differing is not None:
        return Found(differing)
    own = [end for end in failed if kind_of(end) < Kind.VICTIM] or failed
    first = [end for end in own if not any(_before(other, end) for other in own)]
    least = min(map(kind_of, first))
    cause, *also = sorted((end for end in first if kind_of(end) == least), key=_order)
    return Found(cause, tuple(also)) if least < Kind.VICTIM else Found(cause)


def _before(one: RankEnd, other: RankEnd) -> bool:
    """Whether it is certain that it came before the other."""
    if one.host == other.host:
        return one.t + APART_S < other.t
    return one.latest < other.earliest


def _order(end: RankEnd) -> tuple[float, int]:
    return end.t, end.rank


def explain(found: Found) -> tuple[str, str]:
    """(what happened, what to do next) for the root cause."""
    end = found.end
    if end.state == RankState.RESCUED:
        return (
            f"rank {end.rank} on {end.host} lost its peers although no worker is known to have died",
            NETWORK,
        )
    usual = OUT_OF_MEMORY if end.oom else NETWORK if kind_of(end) is Kind.VICTIM else HINTS.get(end.signal or "", "")
    hint = str(end.failure.get("hint", "")) or usual
    text = end.told + (f": {end.message}" if end.message else f": out of memory ({end.oom})" if end.oom else "")
    if found.also and found.same:
        text += f"; so did {ranks_told([one.rank for one in found.also])}"
    elif found.also:
        others = ", ".join(one.told for one in found.also[:_MOST_TOLD])
        more = f" and {len(found.also) - _MOST_TOLD} more" if len(found.also) > _MOST_TOLD else ""
        text += f" (which was the first is undetermined: at the same moment {others}{more})"
    return text, hint


def about(end: RankEnd) -> str:
    """What is known beside that of an end which says nothing of itself; empty if there is nothing."""
    if end.signal != "SIGKILL" or end.message:
        return end.message
    memory = f"memory was at {end.memory}" if end.memory else ""
    if end.oom:
        return f"the kernel ended it, as memory had run out: {end.oom}" + (f"; {memory}" if memory else "")
    return "who sent it is not known: it was nothing of this run" + (f"; {memory}" if memory else "")
