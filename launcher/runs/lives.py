"""What the journals tell of each generation's life, all times by the coordinator's clock. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from launcher.runs.fields import integer, number, text
from launcher.runs.model import GenerationView
from launcher.runs.tail import Progress
from worker.contract import records
from worker.contract.layout import parse_checkpoint_name
from worker.contract.records import Record
from worker.contract.states import RankState

SIGN_EVERY_S = 0.5  # a trainer says so often at least what it has done, unless its steps take longer
_LATEST = _EVER = 1e11

_OF_A_FAILURE = frozenset({RankState.FAILED, RankState.RESCUED, RankState.ENDED, RankState.UNKILLABLE})


@dataclass
class Told:
    """One generation. What is None nobody has told."""

    view: GenerationView
    first_step_at: float | None = None
    noticed_at: float | None = None  # the first that was recorded of a failure
    died_at: float | None = None  # an end that an agent saw in the moment in which it happened
    left_at: float | None = None  # the last worker's end
    signs_at: float | None = None  # the last sign that steps were done
    followed: bool = False  # such signs are as frequent as `sign_every_s` says: a progress file is known
    sign_every_s: float = SIGN_EVERY_S
    first_step: int | None = None
    reached: int | None = None
    saved: int | None = None  # the newest step of which it has left a checkpoint
    saving_s: float = 0.0  # for which training stood still to save
    over_at: dict[str, float] = field(default_factory=dict)  # host → when its part had ended
    failed: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(host for _, host in self.view.ranks))

    @property
    def from_step(self) -> int:
        parsed = parse_checkpoint_name(self.view.resumes)
        return parsed[1] if parsed else 0

    @property
    def all_over_at(self) -> float | None:
        """When it had ended on the last of its hosts; None while one has not said so."""
        hosts = self.hosts
        return max(self.over_at[host] for host in hosts) if hosts and set(hosts) <= set(self.over_at) else None


class Clocks:
    """How far hosts' clocks are ahead of the coordinator's, by what cannot have happened before something else.

    A worker starts after its generation, and ends before the coordinator can know of it. Where a clock that agrees
    fits in between, it agrees; where nothing fits, the clock was changed meanwhile and nothing is known.
    """

    def __init__(self) -> None:
        self._between: dict[str, dict[int, tuple[float, float]]] = {}
        self._newest: dict[str, int] = {}

    def learn(self, view: GenerationView, host: str, events: Sequence[Record], known_over_at: float) -> None:
        """`events` are the host's of one generation; `known_over_at`: by when the coordinator knew of its end, or
        now."""
        starts, all_times = list(_times(events, records.RANK_STARTED)), list(_times(events, None))
        least = max(all_times) - known_over_at if all_times else -_EVER
        most = min(starts) - view.started_at if starts and view.started_at is not None else _EVER
        self._between.setdefault(host, {})[view.generation] = (max(least, -_EVER), min(most, _EVER))
        self._newest[host] = view.generation

    def here(self, host: str, generation: int, at: float) -> float:
        """A time of a host's, by the coordinator's clock."""
        return at - self._ahead(host, generation)

    def here_now(self, host: str, at: float) -> float:
        """The same where it is not known of which generation it is."""
        return at - self._ahead(host, self._newest.get(host, 0))

    def _ahead(self, host: str, generation: int) -> float:
        """By all generations, if one clock fits them all; else by this one alone."""
        between = self._between.get(host, {})
        least = max((low for low, _ in between.values()), default=0.0)
        most = min((high for _, high in between.values()), default=0.0)
        if least > most:
            least, most = between.get(generation, (0.0, 0.0))
        if least > most or least <= 0 <= most:
            return 0.0
        if least == -_EVER or most == _EVER:
            return most if least == -_EVER else least
        return (least + most) / 2


def told_of(
    view: GenerationView,
    host_events: Mapping[str, Sequence[Record]],
    progress: Mapping[int, Progress],
    clocks: Clocks,
) -> Told:
    """One generation. `host_events`: of each host, only its records of this generation. `progress`: of some of its
    ranks. `clocks` must have learnt all that there is."""
    told = Told(view)
    hosts = dict(view.ranks)
    for host in told.hosts:
        events = host_events.get(host, ())
        asked: set[int] = set()
        for record in events:
            at = when(record)
            if at is not None:
                rank = integer(record, "rank")
                if rank is None or hosts.get(rank) == host:
                    _take(told, record, host, rank, clocks.here(host, view.generation, at), asked)
    for rank, of_rank in progress.items():
        if rank in hosts:
            _take_progress(told, of_rank, hosts[rank], clocks)
    return told


def when(record: Record) -> float | None:
    """A record's time, if it is one that a clock can show."""
    at = number(record, "t")
    return at if at is not None and 0 <= at <= _LATEST else None


def by_generation(events: Sequence[Record]) -> dict[int, list[Record]]:
    """A host's records by the generation they speak of. What a later agent tells of an earlier one's ranks is left
    out: it does not know when they ended."""
    found: dict[int, list[Record]] = {}
    agent = 0
    begun_by: dict[int, int] = {}
    for record in events:
        if record["type"] == records.AGENT_STARTED:
            agent += 1
        generation = integer(record, "generation")
        if generation is not None and begun_by.setdefault(generation, agent) == agent:
            found.setdefault(generation, []).append(record)
    return found


def _times(events: Sequence[Record], kind: str | None) -> Iterator[float]:
    for record in events:
        at = when(record)
        if at is not None and (kind is None or record["type"] == kind):
            yield at


def _take(told: Told, record: Record, host: str, rank: int | None, at: float, asked: set[int]) -> None:
    kind = record["type"]
    step = integer(record, "step")
    if kind == records.RANK_FIRST_STEP or (
        kind == records.RANK_STARTED and text(record, "state") == RankState.TRAINING.value
    ):
        told.first_step_at = _earlier(told.first_step_at, at)
        told.signs_at = _later(told.signs_at, at) if kind == records.RANK_FIRST_STEP else told.signs_at
        told.first_step = step if told.first_step is None else told.first_step
    elif kind == records.RANK_EPOCH:
        told.signs_at = _later(told.signs_at, at)
    elif kind == records.CHECKPOINT:
        told.saved = _most(told.saved, step)
    elif kind == records.RANK_ASKED_TO_STOP or kind == records.RANK_FAILURE:
        if rank is not None and kind == records.RANK_ASKED_TO_STOP:
            asked.add(rank)
        told.noticed_at = _earlier(told.noticed_at, at)
    elif kind == records.RANK_ENDED:
        _take_end(told, record, at, was_asked=rank in asked)
    elif kind == records.GENERATION_ENDED:
        told.over_at[host] = at
    if kind in (records.RANK_FIRST_STEP, records.RANK_EPOCH, records.CHECKPOINT, records.RANK_ENDED):
        told.reached = _most(told.reached, step)


def _take_end(told: Told, record: Record, at: float, *, was_asked: bool) -> None:
    state = next((state for state in _OF_A_FAILURE if state.value == text(record, "state")), None)
    told.left_at = _later(told.left_at, at)
    if state is None:
        return
    told.failed = told.failed or state in (RankState.FAILED, RankState.RESCUED)
    told.noticed_at = _earlier(told.noticed_at, at)
    if state == RankState.FAILED and not was_asked:
        told.died_at = _earlier(told.died_at, at)


def _take_progress(told: Told, progress: Progress, host: str, clocks: Clocks) -> None:
    first, last = progress.first, progress.step
    at = when(last) if last else None
    if last is None or at is None:
        return
    told.followed = True
    told.signs_at = _later(told.signs_at, clocks.here(host, told.view.generation, at))
    step = integer(last, "step")
    told.reached = _most(told.reached, step)
    told.saving_s = max(told.saving_s, number(last, "saving_s") or 0.0)
    began, since = (integer(first, "step"), when(first)) if first else (None, None)
    if step is not None and began is not None and since is not None and step > began and at > since:
        told.sign_every_s = max(told.sign_every_s, (at - since) / (step - began))


def _earlier(known: float | None, at: float) -> float:
    return at if known is None else min(known, at)


def _later(known: float | None, at: float) -> float:
    return at if known is None else max(known, at)


def _most(known: int | None, step: int | None) -> int | None:
    return known if step is None else step if known is None else max(known, step)
