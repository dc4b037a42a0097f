"""One rank of a generation: what it told, how it is being ended, what its end was. Pure; times are awake seconds."""

from __future__ import annotations

from enum import Enum
from typing import Any, Dict, List, Optional, Set

from ..contract import records
from ..contract.records import Record
from ..contract.states import RANK_ALIVE, RankState, WorkerExit
from .orders import RankOrder, Timeouts
from .told import fields_of, number

# What a survivor may take to learn of it, save the newest whole step and leave. A collective under way breaks at
# once; one that is the first of its kind would wait for 8 to 12 s, and is broken off when we tell it of the loss.
RESCUE_S = 15.0
SHORT_S = 1.0  # between SIGTERM and SIGKILL where nothing is to be saved
UNKILLABLE_S = 10.0


class Ending(Enum):
    """Why a rank is being ended by its agent."""

    STOP = "it was asked to stop"
    VICTIM = "another rank failed"
    CULPRIT = "it made no progress"


class RankLife:
    """A rank from its order to its end."""

    def __init__(self, order: RankOrder, timeouts: Timeouts, t: float) -> None:
        self.order = order
        self.state = RankState.STARTING if order.message else RankState.TRAINING
        self.begun_at = t
        self.progressed_at = t
        self.heard_at = t
        self.phases = 0
        self.phase = ""
        self.step: Optional[int] = None
        self.newest: Record = {}  # its last step record, for the beat
        self.first_step_told = False
        self.last_epoch = 0
        self.failures_told = 0
        self.failure = ""  # the reason of the failure that it told
        self.result: Dict[str, Any] = {}
        self.saved: Set[str] = set()
        self.leaving: Optional[Dict[str, Any]] = None  # its exit, while its output is being moved
        self.ending: Optional[Ending] = None
        self.reason = ""
        self.asked = False
        self._asked_at = t
        self._timeouts = timeouts
        self.term_at: Optional[float] = None
        self.kill_at: Optional[float] = None
        self.killed_at: Optional[float] = None
        self.termed = False

    @property
    def alive(self) -> bool:
        return self.state in RANK_ALIVE

    @property
    def stepping(self) -> bool:
        """True for a trainer that has finished a step, so that it holds something worth saving."""
        return self.order.message and self.step is not None

    def note(self, record: Record, t: float) -> None:
        """Take in a record of its progress file. Only a higher step, or news that is no step, counts as progress."""
        self.heard_at = t
        if record["type"] != records.STEP:
            self.progressed_at = t
            if record["type"] == records.PHASE:
                self.phases += 1
                self.phase = str(record.get("name") or "")[:64]
            return
        step = number(record.get("step"))
        if step is None:
            return
        if self.step is None or step > self.step:
            self.progressed_at = t
            self._first_step(t)
        self.step = step
        self.newest = {"type": records.STEP, **fields_of(record)}
        if self.state is RankState.STARTING:
            self.state = RankState.TRAINING

    def _first_step(self, t: float) -> None:
        # Asked before its first step, it was given a short while; now there is something to save.
        if self.step is None and self.asked and not self.termed and self.ending is Ending.STOP:
            self.term_at = max(self.term_at or t, self._asked_at + self._timeouts.checkpoint_s)
            self.kill_at = self.term_at + self._timeouts.stop_s

    def ask(self, reason: str, t: float) -> bool:
        """Begin a graceful end; True if the control pipe is to be written to (once)."""
        times = self._timeouts
        if not self.order.message:
            self.end(Ending.STOP, reason, t, t + times.stop_s)
            return False
        if self.asked:
            return False
        self.asked = True
        self._asked_at = t
        if self.stepping:
            self.end(Ending.STOP, reason, t + times.checkpoint_s, t + times.checkpoint_s + times.stop_s)
        else:
            self.end(Ending.STOP, reason, t + times.stop_s, t + times.stop_s + SHORT_S)
        return True

    def end(self, ending: Ending, reason: str, term_at: float, kill_at: float) -> None:
        """Plan SIGTERM and SIGKILL. A later plan can only hasten an earlier one; the first reason stays."""
        if self.ending is None:
            self.ending = ending
            self.reason = reason
        self.term_at = term_at if self.term_at is None else min(self.term_at, term_at)
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        if self.state is not RankState.UNKILLABLE:
            self.state = RankState.STOPPING

    def was_termed(self, reason: str) -> None:
        """It was sent SIGTERM by somebody else, and has left: no failure of its own."""
        self.ending, self.reason = Ending.STOP, reason

    def due(self, t: float) -> List[str]:
        """The signals to send now, each of them once."""
        signals = []
        if self.term_at is not None and t >= self.term_at and not self.termed:
            self.termed = True
            signals.append("SIGTERM")
        if self.kill_at is not None and t >= self.kill_at and self.killed_at is None:
            self.killed_at = t
            signals.append("SIGKILL")
        return signals

    def found_unkillable(self, t: float) -> bool:
        """True once, ten seconds after a SIGKILL that did nothing."""
        if self.state is RankState.UNKILLABLE or self.killed_at is None or t < self.killed_at + UNKILLABLE_S:
            return False
        self.state = RankState.UNKILLABLE
        return True

    def next_due(self) -> Optional[float]:
        """When `due` or `found_unkillable` has something next."""
        if self.killed_at is not None:
            return None if self.state is RankState.UNKILLABLE else self.killed_at + UNKILLABLE_S
        times = [at for at in (None if self.termed else self.term_at, self.kill_at) if at is not None]
        return min(times) if times else None

    def _failed_by_itself(self, exit_code: Optional[int]) -> bool:
        """Whether it was being ended, and had a failure of its own instead: it could not save, or workers disagree."""
        spoke = self.order.message and not self.termed and exit_code is not None
        if not spoke or exit_code in (0, WorkerExit.RESCUED, WorkerExit.STOPPED):
            return False
        if self.ending is Ending.VICTIM:  # whatever else it says may come of its peer's death
            return self.failure == "cluster"
        return self.failure not in ("", "peer") and (self.stepping or self.ending is None)

    def verdict(self, exit_code: Optional[int]) -> RankState:
        """What its exit was. A signal is an exit code of None."""
        if self.ending is Ending.CULPRIT:
            return RankState.FAILED
        if self.order.message and exit_code == WorkerExit.RESCUED:
            return RankState.RESCUED
        if exit_code == 0 and (self.order.message or not self.termed):
            return RankState.FINISHED  # a program may well handle SIGTERM and exit with 0; a trainer's 0 means done
        if self._failed_by_itself(exit_code):
            return RankState.FAILED
        if self.ending is Ending.STOP or (self.order.message and exit_code == WorkerExit.STOPPED):
            return RankState.STOPPED
        if self.ending is Ending.VICTIM or self.failure == "peer":
            return RankState.ENDED
        return RankState.FAILED
