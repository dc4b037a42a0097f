"""What the journals say, record by record: the coordinator's own story, and each host's about its ranks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from launcher.runs.fields import integer, number, numbers, objects, text, texts
from launcher.runs.model import Cause, FailureView, GenerationView
from worker.contract import records
from worker.contract.records import Record
from worker.contract.states import RANK_ENDED, RankState, RunState, WorkerExit

_MOST_HOSTS = 10_000
_MOST_REMARKS = 1_000


@dataclass
class RunTold:
    """The coordinator's journal, folded. Every start of a coordinator takes back the end that an earlier one told."""

    run: str = ""
    started_at: float | None = None
    workers: int | None = None
    epochs: int | None = None
    hosts: tuple[str, ...] = ()
    term: int = 0
    pid: int | None = None
    state: RunState = RunState.PREPARING
    reason: str = ""
    stop_asked: str = ""
    generations: dict[int, GenerationView] = field(default_factory=dict)
    failures: list[FailureView] = field(default_factory=list)
    cause: Cause | None = None
    end: Record | None = None
    heard_at: float | None = None  # the time of the last record
    remarks: list[str] = field(default_factory=list)
    unreachable: dict[str, str] = field(default_factory=dict)  # host → why, while its link is lost
    clocks: dict[str, float] = field(default_factory=dict)  # host → how many seconds its clock is ahead, if it is wrong

    @property
    def generation(self) -> GenerationView | None:
        return self.generations[max(self.generations)] if self.generations else None


def told_by_coordinator(events: Sequence[Record]) -> RunTold:
    """Fold the coordinator's journal."""
    told = RunTold()
    for record in events:
        told.heard_at = number(record, "t")
        take = _TAKE.get(record["type"])
        if take:
            take(told, record)
    return told


def _created(told: RunTold, record: Record) -> None:
    told.run = told.run or text(record, "run")
    if told.started_at is None:
        launched = number(record, "launched_at")
        told.started_at = launched if launched is not None else number(record, "t")
    told.workers = integer(record, "workers")
    told.epochs = integer(record, "epochs")
    told.hosts = texts(record, "hosts", most=_MOST_HOSTS)


def _coordinator_started(told: RunTold, record: Record) -> None:
    told.pid = integer(record, "pid")
    told.term = max(told.term, integer(record, "term") or 0)
    told.state, told.reason = RunState.PREPARING, ""
    told.end = told.cause = None
    told.stop_asked = ""
    told.unreachable = {}
    found = numbers(record, "clocks", most=_MOST_HOSTS)
    told.clocks.update((host, ahead) for host, ahead in found.items() if ahead is not None)


def _run_state(told: RunTold, record: Record) -> None:
    told.state = run_state(text(record, "state")) or told.state
    told.reason = text(record, "reason")


def _generation_started(told: RunTold, record: Record) -> None:
    generation = integer(record, "generation")
    if generation is None:
        return
    ranks = [(integer(item, "rank"), text(item, "host")) for item in objects(record, "ranks")]
    told.epochs = integer(record, "epochs") or told.epochs
    told.unreachable = {}  # it does not start before every host that is at work obeys
    told.generations[generation] = GenerationView(
        generation=generation,
        started_at=number(record, "t"),
        resumes=text(record, "resumes"),
        ranks=tuple(sorted((rank, host) for rank, host in ranks if rank is not None and safe_name(host))),
        without=_without(record),
    )


def _without(record: Record) -> dict[str, str]:
    found = record.get("without")
    hosts = [host for host in found if isinstance(host, str)][:_MOST_HOSTS] if isinstance(found, dict) else []
    return {host: text(dict(found or {}), host) for host in hosts}


def _restart(told: RunTold, record: Record) -> None:
    generation, message = integer(record, "generation") or 0, text(record, "message")
    if len(told.failures) < _MOST_REMARKS:
        pause = number(record, "pause_s") or 0.0
        planned = record.get("planned") is True
        told.failures.append(FailureView(generation, message, number(record, "t"), pause, planned))
    if generation in told.generations:
        told.generations[generation] = replace(told.generations[generation], reason=message)


def _stop_requested(told: RunTold, record: Record) -> None:
    told.stop_asked = text(record, "by") or "somebody"


def _cause(told: RunTold, record: Record) -> None:
    told.cause = Cause(
        rank=integer(record, "rank"),
        host=text(record, "host"),
        generation=integer(record, "generation") or 0,
        how=text(record, "how"),
        message=text(record, "message"),
        hint=text(record, "hint"),
        log=text(record, "log"),
        lines=texts(record, "lines"),
    )


def _host_leaving(told: RunTold, record: Record) -> None:
    if len(told.remarks) < _MOST_REMARKS:
        told.remarks.append(f"{text(record, 'host')} has to go ({text(record, 'why')}): all workers save and stop")


def _link_lost(told: RunTold, record: Record) -> None:
    if len(told.unreachable) < _MOST_HOSTS:
        told.unreachable[text(record, "host")] = text(record, "why")


def _link_back(told: RunTold, record: Record) -> None:
    told.unreachable.pop(text(record, "host"), None)


def _remark(told: RunTold, record: Record) -> None:
    if len(told.remarks) < _MOST_REMARKS:
        told.remarks.append(text(record, "text"))


def _run_ended(told: RunTold, record: Record) -> None:
    told.state = run_state(text(record, "state")) or RunState.FAILED
    told.reason = text(record, "message")
    told.end = record


_TAKE = {
    records.RUN_CREATED: _created,
    records.COORDINATOR_STARTED: _coordinator_started,
    records.RUN_STATE: _run_state,
    records.GENERATION_STARTED: _generation_started,
    records.RESTART: _restart,
    records.STOP_REQUESTED: _stop_requested,
    records.REMARK: _remark,
    records.HOST_LEAVING: _host_leaving,
    records.LINK_LOST: _link_lost,
    records.LINK_BACK: _link_back,
    records.CAUSE: _cause,
    records.RUN_ENDED: _run_ended,
}


@dataclass
class RankTold:
    """What a host's journal says of one rank of one generation."""

    state: RankState = RankState.PENDING
    pid: int | None = None
    start_time: int | None = None
    first_step_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    signal: str | None = None
    step: int | None = None
    failure: Record | None = None
    lease_ended: bool = False  # after it was started
    going: str = ""  # why its host had to go, in this generation
    asked: str = ""  # the reason that it was asked to stop for


def told_of_rank(events: Sequence[Record], generation: int, rank: int) -> RankTold:
    """Fold a host's journal to one rank of one generation. A rank that was never started there is pending."""
    told = RankTold()
    for record in events:
        if record["type"] == records.LEASE_ENDED:
            told.lease_ended = told.pid is not None
        elif record["type"] == records.HOST_GOING and integer(record, "generation") == generation:
            told.going = text(record, "why") or "SIGTERM"
        elif integer(record, "rank") == rank and integer(record, "generation") == generation:
            _of_rank(told, record)
    return told


def _of_rank(told: RankTold, record: Record) -> None:
    kind = record["type"]
    if kind == records.RANK_STARTED:
        told.pid, told.start_time = integer(record, "pid"), integer(record, "start_time")
        told.state = rank_state(text(record, "state")) or RankState.STARTING
    elif kind == records.RANK_FIRST_STEP:
        told.first_step_at = number(record, "t")
        told.state = RankState.TRAINING if told.state == RankState.STARTING else told.state
    elif kind == records.RANK_ASKED_TO_STOP:
        told.asked = told.asked or text(record, "reason")
        told.state = told.state if told.state in RANK_ENDED else RankState.STOPPING
    elif kind == records.RANK_UNKILLABLE:
        told.state = RankState.UNKILLABLE
    elif kind == records.RANK_FAILURE:
        told.failure = record
    elif kind == records.RANK_ENDED:
        told.state = rank_state(text(record, "state")) or RankState.FAILED
        told.ended_at = number(record, "t")
        told.exit_code, told.signal = integer(record, "exit_code"), text(record, "signal") or None
        told.step = integer(record, "step")


def how_ended(exit_code: int | None, signal: str | None) -> str:
    """How a process ended, in a few words: `exit code 3`, `SIGKILL`."""
    if signal:
        return signal
    if exit_code is None:
        return "an end that nobody saw"
    names = {code.value: code.name.lower().replace("_", " ") for code in WorkerExit if code > 1}
    return f"exit code {exit_code}" + (f" ({names[exit_code]})" if exit_code in names else "")


def run_state(value: str) -> RunState | None:
    return next((state for state in RunState if state.value == value), None)


def rank_state(value: str) -> RankState | None:
    return next((state for state in RankState if state.value == value), None)


def safe_name(host: str) -> bool:
    """Whether a host's name can be a folder's, and no way out of the run's."""
    return bool(host) and host not in (".", "..") and not set(host) & {"/", "\0"}
