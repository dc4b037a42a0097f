"""What the run leaves on other machines comes home: begun once all have started, completed before its end is written.

Each gatherer costs its host a start of Python: not before the workers have theirs.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

from launcher.errors import LauncherError
from launcher.gather.gathering import COMING, Gathering
from launcher.plan.model import LaunchPlan
from launcher.supervise.patient import PatientJournal
from worker.contract import records
from worker.contract.layout import parse_checkpoint_name

Make = Callable[[Callable[[str], None]], Gathering]

GIVE_UP_S = 30.0  # how long the end of a run waits for hosts from which nothing comes
_PIECE_S = 0.5
_BEGIN_S = 10.0  # whoever has not started by then does not hold up the others' logs
_SHORT_PIECE_S = 0.1
_AGAIN_S = 2.0  # another process may bring the same home: `launcher fetch`, or a coordinator that is frozen


class Homecoming:
    """The gathering of one run, as its coordinator's loop sees it: no call but `settle` and `complete` blocks."""

    def __init__(self, make: Make, journal: PatientJournal, plan: LaunchPlan, *, under_way: bool = False) -> None:
        """`under_way`: the workers run already."""
        self._remarks: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._make = make
        self._gathering = make(self._remarks.put)
        self._journal = journal
        self._there: dict[str, str] = {}  # checkpoints that are on hosts: name → the one that told of it last
        self._chief = next((rank.host for rank in plan.ranks if rank.rank == 0), "")
        self._starting = set() if under_way else {rank.rank for rank in plan.ranks}
        self._begin_at = time.monotonic() + _BEGIN_S
        self._begun = False
        self._hindered = ""  # by another process that brings the same home
        self._not_before = 0.0
        self._lost: set[str] = set()

    def begin(self) -> None:
        """Follow every log; checkpoints and output of the chief's host, too. Called again, it does nothing."""
        if self._begun or time.monotonic() < self._not_before:
            return
        try:
            self._gathering.start()
            for host in {self._chief, *self._there.values()}:
                self._gathering.start_bulk(host)
        except LauncherError as error:
            self._gathering.stop()
            self._gathering = self._make(self._remarks.put)
            self._not_before = time.monotonic() + _AGAIN_S
            if not self._hindered:
                self._remarks.put(f"{error.message}: it is tried again")
            self._hindered = error.message
            return
        self._begun = True

    def heard_of(self, host: str, event: Mapping[str, Any]) -> None:
        """A record of an agent's: all have started, or one has ended, or has a checkpoint to be brought home."""
        if event.get("type") == records.RANK_STARTED:
            self._starting.discard(int(event.get("rank", -1)))
        if not self._starting or event.get("type") == records.RANK_ENDED:
            self.begin()
        if event.get("type") == records.CHECKPOINT_PRUNED:
            self._there.pop(str(event.get("name")), None)
        if event.get("type") == records.CHECKPOINT:
            self._there[str(event.get("name"))] = host
            if self._begun:
                self._start_bulk(host)

    def lost(self, host: str) -> None:
        """Nothing is expected of this host any more, unless it is `found` again."""
        self._lost.add(host)
        self._gathering.lost(host)

    def found(self, host: str) -> None:
        """The host is there."""
        self._lost.discard(host)

    def goes_on_with(self, plan: LaunchPlan) -> None:
        """Another generation begins: its chief may be on another host, and what that leaves is to come, too."""
        self._chief = plan.ranks[0].host
        if self._begun:
            self._start_bulk(self._chief)

    def tend(self) -> None:
        """Write down what the gatherers have to say. Call it every turn."""
        if not self._starting or time.monotonic() > self._begin_at:
            self.begin()
        while not self._remarks.empty():
            self._journal.append(records.REMARK, text=self._remarks.get())

    def settle(self, timeout_s: float) -> list[str]:
        """Wait for what is on the hosts now, at most so long; what is still missing."""
        self.begin()
        return self._settle(timeout_s)

    def _settle(self, timeout_s: float) -> list[str]:
        if self._begun or not self._hindered:
            return self._gathering.settle(timeout_s, without=tuple(self._lost))
        time.sleep(min(timeout_s, _PIECE_S))
        return [self._hindered]

    def _start_bulk(self, host: str) -> None:
        try:
            self._gathering.start_bulk(host)
        except LauncherError as error:
            self._remarks.put(error.message)

    def await_newest(self, is_here: Callable[[str], bool], turn: Callable[[], object] = lambda: None) -> None:
        """Wait for the newest checkpoint that a host has told of, as long as something comes. For any thread; `turn`
        is called again and again."""
        since = time.monotonic()
        names = {name: parsed for name in tuple(self._there) if (parsed := parse_checkpoint_name(name)) is not None}
        newest = max(names, key=lambda name: (names[name][1], names[name][0]), default=None)
        while newest is not None and not is_here(newest):
            missing = self._settle(_SHORT_PIECE_S)
            turn()
            if any(line.endswith(COMING) for line in missing):
                since = time.monotonic()
            if not missing or time.monotonic() - since > GIVE_UP_S:
                return

    def complete(self, turn: Callable[[], bool], *, give_up_s: float = GIVE_UP_S) -> None:
        """Wait until everything is here, as long as something comes. `turn` serves the loop meanwhile, and says whether
        to go on waiting. What is missing after `give_up_s` in which nothing came is written down."""
        self.begin()
        since = time.monotonic()
        while missing := self.settle(_PIECE_S):
            self.tend()
            if any(line.endswith(COMING) for line in missing):
                since = time.monotonic()
            if not turn() or time.monotonic() - since > give_up_s:
                break
        self._gathering.stop()
        self.tend()
        missing += [f"{host} cannot be reached" for host in sorted(self._lost)]
        if missing:
            self._journal.append(
                records.REMARK, text=f"not all is home ({'; '.join(missing)}): `launcher fetch` brings the rest"
            )
