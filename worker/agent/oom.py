"""Whether the kernel ended a rank as memory had run out: by its own records, where they can be read; never a guess.

Read while ranks live, since a dead one's control group cannot be asked for: each time a count of out-of-memory kills,
and how full memory is. A count that has risen since the last look but one belongs to a rank that was killed just now by
nobody of this run; a kernel's log that names the very process needs no such coincidence.
"""

from __future__ import annotations

import os
import re
import time
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from ..contract.machine import memory

PERIOD_S = 1.0
_LOG_S = 10.0  # so long before the end may the kernel have said that it ends the process
_MOST_RECORDS = 50_000
_MOST_S = 0.5
_KILLED = re.compile(rb"Killed process (\d+)\b")
OF_GROUP = "its control group counted an out-of-memory kill"
OF_MACHINE = "this machine counted an out-of-memory kill"
OF_LOG = "the kernel's log names it"


class Files(NamedTuple):
    """Where the kernel tells. A test has others."""

    proc: str = "/proc"
    cgroups: str = memory.CGROUPS
    log: str = "/dev/kmsg"


class _Look(NamedTuple):
    counts: Dict[str, int]  # by file
    groups: Dict[int, List[str]]  # the files that count for a rank's process
    memory: Dict[int, str]


class Kill(NamedTuple):
    """What is known of a SIGKILL that nobody of ours has sent; both may be empty."""

    oom: str = ""
    memory: str = ""


class KillRecords:
    """Looks once a second while asked to. No method raises; the kernel's files take no disk."""

    def __init__(self, files: Files = Files(), clock: Callable[[], float] = time.monotonic) -> None:  # noqa: B008
        self._files = files
        self._clock = clock
        self._looks: List[_Look] = []
        self._at = float("-inf")

    def look(self, pids: Iterable[int]) -> None:
        """To be called often, with the pids of the ranks that live."""
        now, alive = self._clock(), list(pids)
        known = self._looks[-1].groups if self._looks else {}
        if now < self._at + PERIOD_S and all(pid in known for pid in alive):
            return
        self._at = now
        groups = {pid: self._counters(pid) for pid in alive}
        files = {file for found in groups.values() for file in found} | {self._of_machine}
        counts = {file: count for file in files for count in [_count(file)] if count is not None}
        full = {pid: self._fullness(pid) for pid in groups}
        self._looks = [*self._looks[-1:], _Look(counts, groups, full)]

    def of(self, pid: int) -> Kill:
        """What there is about the end of this process, which was killed just now."""
        told = next((look.memory[pid] for look in reversed(self._looks) if look.memory.get(pid)), "")
        if self._has_risen(self._of_machine) is False:  # nobody at all: the log need not be read for that
            return Kill("", told)
        if self._in_log(pid):
            return Kill(OF_LOG, told)
        mine = next((look.groups[pid] for look in reversed(self._looks) if pid in look.groups), [])
        if any(self._has_risen(file) for file in mine):
            return Kill(OF_GROUP, told)
        return Kill(OF_MACHINE if self._has_risen(self._of_machine) else "", told)

    @property
    def _of_machine(self) -> str:
        return os.path.join(self._files.proc, "vmstat")

    def _counters(self, pid: int) -> List[str]:
        """The counting file of the process's own group, which has what groups above it have ended it for, too."""
        for group, _ in memory.groups(self._files.cgroups, os.path.join(self._files.proc, str(pid), "cgroup")):
            for name in ("memory.events", "memory.oom_control"):
                file = os.path.join(group, name)
                if _count(file) is not None:
                    return [file]
        return []

    def _fullness(self, pid: int) -> str:
        own = os.path.join(self._files.proc, str(pid), "cgroup")
        found = memory.tightest(os.path.join(self._files.proc, "meminfo"), self._files.cgroups, own)
        return f"{found.used / 1e9:.1f} of {found.most / 1e9:.1f} GB" if found else ""

    def _has_risen(self, file: str) -> Optional[bool]:
        """Since the last look but one: the last one may have come after the kill. None: it cannot be told."""
        before = self._looks[0].counts.get(file) if self._looks else None
        now = _count(file)
        return None if before is None or now is None else now > before

    def _in_log(self, pid: int) -> bool:
        """Whether the kernel's log says that it killed this process, within the last seconds. Its pids are those of the
        machine: in a container others, so that nothing is found."""
        since = (time.clock_gettime(time.CLOCK_MONOTONIC) - _LOG_S) * 1e6
        return any(found == pid for at, found in _kills(self._files.log) if at >= since)


def _kills(log: str) -> Iterable[Tuple[int, int]]:
    """(microseconds since boot, pid) of the kills for want of memory in the kernel's log; each read is a record."""
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    found = []
    until = time.monotonic() + _MOST_S
    try:
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(descriptor, 8192)
            except BrokenPipeError:  # this one was overwritten meanwhile; the next is there
                continue
            if not record or time.monotonic() > until:
                break
            killed = _KILLED.search(record)
            fields = record.split(b";", 1)[0].split(b",")
            if killed and len(fields) > 2 and fields[2].isdigit():
                found.append((int(fields[2]), int(killed[1])))
    except OSError:  # at the end, EAGAIN
        pass
    finally:
        os.close(descriptor)
    return found


def _count(file: str) -> Optional[int]:
    """The `oom_kill` that a file of the kernel's has."""
    try:
        with open(file, encoding="ascii", errors="replace") as opened:
            return next((int(line.split()[1]) for line in opened if line.startswith("oom_kill ")), None)
    except (OSError, ValueError, IndexError):
        return None
