"""One life of the cluster on this host: its ranks from the order to the last of their processes. Pure.

Times are awake seconds: a suspended machine does not let deadlines pass.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Set, Union

from ..contract import layout, records
from ..contract.records import Record
from ..contract.states import RankState
from .events import (
    Ask,
    Exited,
    Kill,
    MoveOutput,
    NotPublished,
    NotStarted,
    Outbox,
    OutputMoved,
    Publish,
    Published,
    RankEvent,
    Spawn,
    Stands,
    Started,
    Stuck,
    Sweep,
    Swept,
    TellOfLoss,
    Told,
)
from .going import TERMED_CODE
from .life import RESCUE_S, SHORT_S, Ending, RankLife
from .orders import Order
from .origin import is_trainer
from .stall import StallWatch
from .told import fields_of, file_name, number

MOST_FAILURES = 20
MOST_WHY = 100
NO_ROOM = "the disk has no room for it, and it was not home yet"
BEREFT_S = 10.0  # how long workers may take to leave an agent that cannot stay


class Generation:
    """Takes what happens to the ranks, writes instructions to the outbox. `over` once nothing of it is left."""

    def __init__(self, order: Order, out: Outbox, t: float) -> None:
        self.number = order.generation
        self.over = False
        self.going = ""  # why this host has to go, if a rank was told so
        self.ranks: Dict[int, RankLife] = {o.rank: RankLife(o, order.timeouts, t) for o in order.ranks}
        self._times = order.timeouts
        self._keep, self._until_home = order.keep, order.until_home
        self._out = out
        alone = order.workers in (None, len(order.ranks))
        self._stall = StallWatch(order.generation, self.ranks, order.timeouts, out, alone=alone)
        self._why = ""  # it ends before all of its ranks have finished
        self._broken = False
        self._finished_at: Optional[float] = None
        self._publishing: Set[str] = set()
        self._sweeping = False
        self._swept = self._stuck = False
        for rank in order.ranks:
            zygote = order.zygote and is_trainer(rank)
            out.add(Spawn(order.generation, rank, zygote, order.timeouts.start_s / 3))

    @property
    def flawless(self) -> bool:
        """Whether every rank has finished, and none left anything behind that could not be ended."""
        return not self._stuck and all(life.state is RankState.FINISHED for life in self.ranks.values())

    def alive(self) -> List[int]:
        return [rank for rank, life in sorted(self.ranks.items()) if life.alive]

    def _write(self, type_: str, rank: int, **fields: Any) -> None:
        self._out.write(type_, generation=self.number, rank=rank, **fields)

    # What the shell tells.

    def on(self, event: RankEvent, t: float) -> None:
        """Take in an event. One about a rank that is not alive is passed over."""
        if isinstance(event, (Swept, Stuck, Published, NotPublished)) or event.rank in self.alive():
            self._EVENTS[type(event)](self, event, t)

    def _started(self, event: Started, t: float) -> None:
        life = self.ranks[event.rank]
        if event.cold:  # what was waited for in vain is not its own time
            life.begun_at = t
        state = RankState.STARTING if life.order.message else RankState.TRAINING
        how: Dict[str, Any] = {"forked": True} if event.forked else {"cold": event.cold} if event.cold else {}
        self._write(
            records.RANK_STARTED, event.rank, pid=event.pid, start_time=event.start_time, state=str(state), **how
        )

    def _not_started(self, event: NotStarted, t: float) -> None:
        life = self.ranks[event.rank]
        life.failure = "environment"
        self._write(records.RANK_FAILURE, event.rank, reason=life.failure, message=event.message, hint=event.hint)
        self._ended(event.rank, {"exit_code": 127}, life.verdict(127), t)

    def _told(self, event: Told, t: float) -> None:
        rank, record = event.rank, event.record
        life = self.ranks[rank]
        life.note(record, t)
        if record["type"] == records.STEP and life.step is not None and not life.first_step_told:
            life.first_step_told = True
            self._write(records.RANK_FIRST_STEP, rank, step=life.step)
        handler = self._RECORDS.get(record["type"])
        if handler is not None:
            handler(self, rank, life, record)

    def _epoch(self, rank: int, life: RankLife, record: Record) -> None:
        epoch = number(record.get("epoch"))
        if life.order.chief and epoch is not None and epoch > life.last_epoch:
            life.last_epoch = epoch
            self._write(records.RANK_EPOCH, rank, **fields_of(record))

    def _result(self, _rank: int, life: RankLife, record: Record) -> None:
        if life.order.chief:
            life.result = fields_of(record)

    def _failure(self, rank: int, life: RankLife, record: Record) -> None:
        fields = fields_of(record)
        life.failure = str(fields.get("reason") or "error")
        life.failures_told += 1
        if life.failures_told <= MOST_FAILURES:
            self._write(records.RANK_FAILURE, rank, **fields)

    def _told_to_go(self, rank: int, _life: RankLife, record: Record) -> None:
        self.going = self.going or f"rank {rank} was sent {str(record.get('why') or 'SIGTERM')[:MOST_WHY]}"

    def _saved(self, rank: int, life: RankLife, record: Record) -> None:
        name = file_name(record.get("folder"))
        if not name or name in life.saved:
            return
        life.saved.add(name)
        parsed = layout.parse_checkpoint_name(name)
        if parsed is None or parsed[0] != self.number:
            self._write(records.CHECKPOINT_REFUSED, rank, name=name, why="it is not a name of this generation")
            return
        self._publishing.add(f"{rank}/{name}")
        fields = fields_of(record)
        epoch, why = fields.get("epoch"), fields.get("why")
        self._out.add(Publish(self.number, rank, name, epoch, why, self._keep, self._until_home))

    def _was_published(self, event: Published, _t: float) -> None:
        parsed = layout.parse_checkpoint_name(event.name)
        step = parsed[1] if parsed else 0
        arrays = self._arrays(event)
        self._write(
            records.CHECKPOINT, event.rank, name=event.name, step=step, epoch=event.epoch, why=event.why, **arrays
        )
        for name in event.pruned:
            lost = {"why": NO_ROOM} if name in event.unfetched else {}
            self._out.write(records.CHECKPOINT_PRUNED, name=name, **lost)
        self._settled(event.rank, event.name)

    def _was_not_published(self, event: NotPublished, _t: float) -> None:
        if event.why:
            arrays = self._arrays(event)
            self._write(records.CHECKPOINT_REFUSED, event.rank, name=event.name, why=event.why, **arrays)
        self._settled(event.rank, event.name)

    def _arrays(self, event: Union[Published, NotPublished]) -> Dict[str, str]:
        """What copies are compared by. A trainer's ranks all save the same; what a program's save is its own affair."""
        return {"arrays": event.arrays} if event.arrays and self.ranks[event.rank].order.message else {}

    def _settled(self, rank: int, name: str) -> None:
        self._publishing.discard(f"{rank}/{name}")
        self._conclude()

    def _exited(self, event: Exited, t: float) -> None:
        """A chief's output is moved first, so that whoever reads of its end finds the model."""
        life = self.ranks[event.rank]
        if life.leaving is not None:
            return
        how: Dict[str, Any] = {"exit_code": event.exit_code} if event.signal is None else {"signal": event.signal}
        more = {"raised": event.raised, "oom": event.oom, "memory": event.memory}
        how.update({name: text for name, text in more.items() if text})
        if life.ending is None and (event.signal == "SIGTERM" or event.exit_code == TERMED_CODE):
            life.was_termed("somebody sent it SIGTERM")
            self.going = self.going or f"rank {event.rank} was sent SIGTERM"
        if not life.order.chief:
            self._ended(event.rank, how, life.verdict(event.exit_code), t)
            return
        life.leaving = how
        # Whoever was killed or failed may have left half a file: that must not take a whole one's place.
        clean = life.verdict(event.exit_code) in (RankState.FINISHED, RankState.RESCUED, RankState.STOPPED)
        self._out.add(MoveOutput(self.number, event.rank, replace=clean and event.signal is None))

    def _output_moved(self, event: OutputMoved, t: float) -> None:
        rank, problem = event.rank, event.problem
        life = self.ranks[rank]
        if life.leaving is None:
            return
        how = life.leaving
        if problem:
            self._write(
                records.RANK_FAILURE,
                rank,
                reason="environment",
                message=f"what it left in its output folder could not be moved: {problem}",
                hint=f"it lies in g{self.number}/rank{rank}/output",
            )
        if life.result:
            model = file_name(life.result.get("model"))
            place = f"output/{model}" if not problem else f"g{self.number}/rank{rank}/output/{model}"
            self._write(records.RANK_RESULT, rank, **{**life.result, "model": place if model else ""})
        self._ended(rank, how, life.verdict(how.get("exit_code")), t)

    def _ended(self, rank: int, how: Dict[str, Any], state: RankState, t: float) -> None:
        life = self.ranks[rank]
        life.state = state
        self._write(records.RANK_ENDED, rank, state=str(state), **how, step=life.step, reason=life.reason)
        if state in (RankState.FINISHED, RankState.STOPPED) and self._finished_at is None:
            self._finished_at = t
        if state is RankState.FAILED:
            what = how.get("signal") or f"exit code {how.get('exit_code')}"
            self.break_up(f"rank {rank} failed ({life.reason or what})", t)
        if state in (RankState.RESCUED, RankState.ENDED) and life.ending is None:
            self.break_up(f"rank {rank} lost a peer", t)
        self._conclude()

    def _was_swept(self, _event: Swept, _t: float) -> None:
        self._swept = self._sweeping
        self._conclude()

    def _was_stuck(self, event: Stuck, _t: float) -> None:
        self._stuck = True
        self._out.write(records.LEFTOVERS, generation=self.number, pids=event.pids)

    def _conclude(self) -> None:
        if self.over or self.alive():
            return
        if not self._sweeping:
            self._sweeping = True
            self._out.add(Sweep())
        if self._swept and not self._publishing:
            self.over = True
            finished = all(life.state is RankState.FINISHED for life in self.ranks.values())
            reason = self._why or ("finished" if finished else "its ranks agreed to stop")
            self._out.write(records.GENERATION_ENDED, generation=self.number, reason=reason)

    # Ending it.

    def stop(self, reason: str, t: float) -> None:
        """Let every rank save what it has and leave."""
        self._why = self._why or reason
        for rank in self.alive():
            life = self.ranks[rank]
            if life.ending is None and life.ask(reason, t):
                self._write(records.RANK_ASKED_TO_STOP, rank, how="message", reason=reason)
                self._out.add(Ask(rank))
        self._signal(t)

    def stop_now(self, reason: str, t: float) -> None:
        self._why = self._why or reason
        for rank in self.alive():
            self.ranks[rank].end(Ending.STOP, reason, t, t + SHORT_S)
        self._signal(t)

    def stop_bereft(self, reason: str, t: float) -> None:
        """Stop gracefully, but within ten seconds."""
        self.stop(reason, t)
        for rank in self.alive():
            self.ranks[rank].end(Ending.STOP, reason, t + BEREFT_S - 2 * SHORT_S, t + BEREFT_S)

    def break_up(self, reason: str, t: float) -> None:
        """A rank died, here or elsewhere: those that hold a step may rescue it, the others have nothing to save."""
        if self._broken:
            return
        self._broken = True
        self._why = self._why or reason
        for rank in self.alive():
            life = self.ranks[rank]
            if life.ending is Ending.CULPRIT:
                continue
            if life.stepping:
                life.end(Ending.VICTIM, reason, t + RESCUE_S, t + RESCUE_S + SHORT_S)
                self._out.add(TellOfLoss(rank))
            else:
                life.end(Ending.VICTIM, reason, t, t + SHORT_S)
        self._signal(t)

    def break_stall(self, rank: int, reason: str, t: float) -> None:
        """This rank holds up the others, which may rescue what they hold. It may be one of another host."""
        if rank in self.alive() and not self._broken:
            self._write(records.RANK_FAILURE, rank, reason="cluster", message=reason, hint="")
            self.ranks[rank].end(Ending.CULPRIT, reason, t, t + SHORT_S)
        self.break_up(f"rank {rank} failed ({reason})", t)

    def excuse_silence(self, t: float) -> None:
        """Ranks that cannot write what they do are not to be judged by what they have written."""
        for life in self.ranks.values():
            life.begun_at = life.progressed_at = life.heard_at = t

    def tick(self, t: float) -> None:
        self._signal(t)
        for rank in self.alive():
            if self.ranks[rank].found_unkillable(t):
                self._write(records.RANK_UNKILLABLE, rank)
        if self._why or not self.alive():
            return
        if self._finished_at is not None and t >= self._finished_at + self._times.checkpoint_s:
            self.stop("the other ranks finished long ago", t)
            return
        culprit = self._stall.tick(t)
        if culprit is not None:
            self.break_stall(culprit.rank, culprit.reason, t)

    def next_due(self) -> Optional[float]:
        times = [at for at in (self.ranks[rank].next_due() for rank in self.alive()) if at is not None]
        return min(times) if times else None

    def _signal(self, t: float) -> None:
        for rank in self.alive():
            life = self.ranks[rank]
            for signal in life.due(t):
                self._write(records.RANK_ASKED_TO_STOP, rank, how=signal, reason=life.reason)
                self._out.add(Kill(rank, signal))

    def _stands(self, event: Stands, _t: float) -> None:
        self._stall.stands(event)

    _EVENTS: Dict[type, Callable[["Generation", Any, float], None]] = {  # noqa: RUF012
        Started: _started,
        NotStarted: _not_started,
        Told: _told,
        Exited: _exited,
        OutputMoved: _output_moved,
        Stands: _stands,
        Published: _was_published,
        NotPublished: _was_not_published,
        Swept: _was_swept,
        Stuck: _was_stuck,
    }
    _RECORDS: Dict[str, Callable[["Generation", int, RankLife, Record], None]] = {  # noqa: RUF012
        records.EPOCH: _epoch,
        records.RESULT: _result,
        records.FAILURE: _failure,
        records.SAVED: _saved,
        records.GOING: _told_to_go,
    }
