"""What became of a run whose coordinator is gone without a word: the agents' journals and who lives tell it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.runs.copies import Divergence
from launcher.runs.fields import integer, text
from launcher.runs.folder import RunFolder
from launcher.runs.model import Alive, Cause
from launcher.runs.told import RankTold, how_ended
from worker.contract import records
from worker.contract.records import Record
from worker.contract.states import RANK_ALIVE, RUN_ALIVE, RankState, RunState, WorkerExit

GONE = "the coordinator is gone"
_PEER = "peer"


@dataclass(frozen=True)
class Verdict:
    """A run's state without its coordinator's word, with the reason in a line."""

    state: RunState
    reason: str
    cause: Cause | None = None


@dataclass(frozen=True)
class RankNow:
    """One rank of the newest generation: what its host told, and whether its end was not told but found out."""

    rank: int
    host: str
    told: RankTold
    state: RankState
    lost: bool = False  # its agent was gone and so was it, and the journal does not say how


def verdict(
    folder: RunFolder,
    generation: int,
    ranks: Sequence[RankNow],
    alive: Alive,
    host_events: Mapping[str, Sequence[Record]],
) -> Verdict:
    """The state of a run without a living coordinator."""
    if not ranks:
        return Verdict(RunState.FAILED, f"{GONE}, and had started no worker")
    if any(rank.state in RANK_ALIVE for rank in ranks):
        return _going_on(ranks, alive)
    if all(rank.state == RankState.PENDING and rank.host not in alive.agents for rank in ranks):
        return Verdict(RunState.STARTING, f"{GONE}, and nothing of what the hosts do has come home yet")
    failed = [rank for rank in ranks if rank.state == RankState.FAILED]
    if failed:
        return _failed(folder, generation, failed)
    lost = [rank for rank in ranks if rank.lost]
    if lost:
        return _agent_gone(folder, generation, lost[0], host_events.get(lost[0].host, ()))
    return _ended(ranks)


def diverged(said: Verdict, found: Sequence[Divergence]) -> Verdict:
    """A run that ended, whichever way but by failing, has failed if copies of a checkpoint differ."""
    if not found or said.state in RUN_ALIVE or said.state == RunState.FAILED:
        return said
    fields = found[0].as_cause()
    return Verdict(RunState.FAILED, found[0].message, Cause(rank=None, **fields))


def cause_of(folder: RunFolder, generation: int, rank: RankNow) -> Cause:
    """The cause that a failed rank is."""
    failure = rank.told.failure or {}
    return Cause(
        rank=rank.rank,
        host=rank.host,
        generation=generation,
        how=how_ended(rank.told.exit_code, rank.told.signal),
        message=text(failure, "message"),
        hint=text(failure, "hint"),
        log=folder.host(rank.host).log(generation, rank.rank),
    )


def _going_on(ranks: Sequence[RankNow], alive: Alive) -> Verdict:
    orphans = [r for r in ranks if r.state in RANK_ALIVE and alive.agent_is_gone(r.host)]
    if orphans:
        who = ", ".join(f"rank {r.rank} (pid {r.told.pid})" for r in orphans)
        return Verdict(_living_state(ranks), f"{GONE} and so is the agent, but {who} lives: launcher ps --kill ends it")
    return Verdict(_living_state(ranks), f"{GONE}; the agents go on until the run or their lease ends")


def _living_state(ranks: Sequence[RankNow]) -> RunState:
    states = {rank.state for rank in ranks}
    if RankState.STOPPING in states:
        return RunState.STOPPING
    return RunState.TRAINING if RankState.TRAINING in states else RunState.STARTING


def _failed(folder: RunFolder, generation: int, failed: Sequence[RankNow]) -> Verdict:
    first = min(failed, key=_when_and_whether_a_victim)
    differs = integer(first.told.failure or {}, "differs")
    first = next((rank for rank in failed if rank.rank == differs), first)
    cause = cause_of(folder, generation, first)
    not_fit = first.told.exit_code == WorkerExit.NOT_FIT and first.told.first_step_at is None
    said = f": {cause.message}" if cause.message else ""
    return Verdict(
        RunState.NOT_FIT if not_fit else RunState.FAILED,
        f"rank {first.rank} on {first.host} ended with {cause.how}{said}",
        cause,
    )


def _when_and_whether_a_victim(rank: RankNow) -> tuple[bool, float]:
    victim = text(rank.told.failure or {}, "reason") == _PEER
    return victim, rank.told.ended_at if rank.told.ended_at is not None else float("inf")


def _agent_gone(folder: RunFolder, generation: int, rank: RankNow, events: Sequence[Record]) -> Verdict:
    started = [record for record in events if record["type"] == records.AGENT_STARTED]
    pid = integer(started[-1], "pid") if started else None
    cause = Cause(
        rank=None,
        host=rank.host,
        generation=generation,
        how="the agent is gone",
        message=f"the agent{f' (pid {pid})' if pid else ''} on {rank.host} ended without a word: it was killed, or the "
        "machine went down; its workers ended with it",
        log=folder.host(rank.host).agent_log,
    )
    return Verdict(RunState.FAILED, f"the agent is gone on {rank.host}, and its workers with it", cause)


def _ended(ranks: Sequence[RankNow]) -> Verdict:
    states = {rank.state for rank in ranks}
    if states == {RankState.FINISHED}:
        return Verdict(RunState.TRAINED, f"{GONE}, and every worker has finished")
    if any(rank.told.lease_ended for rank in ranks):
        return Verdict(RunState.PARKED, f"{GONE}, and the lease has ended")
    going = next((rank for rank in ranks if rank.told.going), None)
    if going is not None:
        return Verdict(RunState.PARKED, f"{GONE}, and {going.host} had to go ({going.told.going})")
    if RankState.STOPPED in states:
        asked = next((rank.told.asked for rank in ranks if rank.told.asked), "")
        return Verdict(RunState.STOPPED, asked or f"{GONE}, and the workers were asked to stop")
    if RankState.PENDING in states:
        return Verdict(RunState.FAILED, f"{GONE}, and had not started every worker")
    return Verdict(RunState.FAILED, f"{GONE}, and the workers were ended")
