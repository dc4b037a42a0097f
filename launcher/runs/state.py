"""A run's state from its records: one pure fold that every verb and every view uses.

A living coordinator's word counts. When it is gone without a word, the agents' journals and the living processes tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.runs import clocks, copies, lineage
from launcher.runs.fields import integer, number, text
from launcher.runs.folder import RunFolder
from launcher.runs.model import Alive, GenerationView, RankView, RunView
from launcher.runs.tail import Progress
from launcher.runs.told import RunTold, told_by_coordinator, told_of_rank
from launcher.runs.verdict import RankNow, Verdict, diverged, verdict
from worker.contract import records
from worker.contract.records import Record
from worker.contract.states import EXIT_CODE_OF, RANK_ALIVE, RUN_ALIVE, RankState

HostEvents = Mapping[str, Sequence[Record]]


def fold(
    folder: RunFolder,
    run_events: Sequence[Record],
    host_events: HostEvents,
    progress: Mapping[int, Progress],
    alive: Alive,
) -> RunView:
    """All that can be told of a run. `progress` is by rank of the newest generation."""
    told = told_by_coordinator(run_events)
    host_events = clocks.events_by_ours(host_events, told.clocks)
    generation = told.generation
    if told.clocks and generation:
        ahead = {rank: told.clocks.get(host, 0.0) for rank, host in generation.ranks}
        progress = {rank: clocks.progress_by_ours(one, ahead.get(rank, 0.0)) for rank, one in progress.items()}
    ranks = [_now(rank, host, told, host_events, alive) for rank, host in generation.ranks] if generation else []
    divergences = copies.divergences(host_events)
    by_agents = told.end is None and alive.coordinator is None
    said = Verdict(told.state, told.reason, told.cause)
    if by_agents:
        number_of = generation.generation if generation else 0
        said = verdict(folder, number_of, ranks, alive, host_events)
        said = diverged(said, [found for found in divergences if found.generation == number_of])
    ended = said.state not in RUN_ALIVE
    generations = tuple(told.generations[number_] for number_ in sorted(told.generations))
    result = lineage.result(host_events, generation)
    return RunView(
        run=told.run or folder.name,
        path=str(folder.path),
        state=said.state,
        reason=said.reason,
        started_at=told.started_at,
        ended_at=_ended_at(told, host_events, progress) if ended else None,
        coordinator_pid=alive.coordinator or (told.pid if alive.coordinator == 0 else None),
        by_agents=by_agents,
        term=told.term,
        generation=generation.generation if generation else 0,
        workers=told.workers if told.workers is not None else (len(ranks) or None),
        epochs_planned=told.epochs,
        ranks=tuple(_rank(folder, generation, rank, progress.get(rank.rank)) for rank in ranks if generation),
        epochs=lineage.epochs(host_events, generations),
        generations=tuple(_with_reason(g, host_events) for g in generations),
        failures=tuple(told.failures),
        checkpoints=lineage.checkpoints(folder, host_events, divergences),
        divergences=divergences,
        test_loss=number(result, "test_loss"),
        test_accuracy=number(result, "test_accuracy"),
        time_to_first_step_s=_time_to_first_step(told, host_events, generations, progress),
        model=_model(folder, told, result, generation),
        exit_code=_exit_code(told, said) if ended else None,
        cause=said.cause,
        agents=dict(alive.agents),
        remarks=tuple(told.remarks),
        unreachable=dict(told.unreachable),
    )


def _now(rank: int, host: str, told: RunTold, host_events: HostEvents, alive: Alive) -> RankNow:
    generation = told.generation
    assert generation is not None
    of_rank = told_of_rank(host_events.get(host, ()), generation.generation, rank)
    if of_rank.state not in RANK_ALIVE or not alive.agent_is_gone(host):
        return RankNow(rank, host, of_rank, of_rank.state)
    lives = (
        of_rank.pid is not None
        and of_rank.start_time is not None
        and alive.process(host, of_rank.pid, of_rank.start_time)
    )
    return RankNow(rank, host, of_rank, of_rank.state if lives else RankState.ENDED, lost=not lives)


def _rank(folder: RunFolder, generation: GenerationView, now: RankNow, progress: Progress | None) -> RankView:
    step = (progress.step if progress else None) or {}
    return RankView(
        rank=now.rank,
        host=now.host,
        state=now.state,
        pid=now.told.pid if now.state in RANK_ALIVE else None,
        epoch=integer(step, "epoch"),
        step=integer(step, "step") if step else now.told.step,
        steps=integer(step, "steps"),
        loss=number(step, "loss"),
        images_per_second=number(step, "images_per_second"),
        exit_code=now.told.exit_code,
        signal=now.told.signal,
        phases=progress.phases if progress else (),
        log=folder.host(now.host).log(generation.generation, now.rank),
    )


def _time_to_first_step(
    told: RunTold, host_events: HostEvents, generations: Sequence[GenerationView], progress: Mapping[int, Progress]
) -> float | None:
    first = lineage.first_step_at(host_events, generations)
    if len(generations) == 1:  # the trainer's own clock is finer than the moment at which the agent read of it
        told_by_trainer = [p.first_step_at for p in progress.values() if p.first_step_at is not None]
        first = min(told_by_trainer, default=first)
    if first is None or told.started_at is None:
        return None
    return round(max(0.0, first - told.started_at), 3)


def _with_reason(generation: GenerationView, host_events: HostEvents) -> GenerationView:
    hosts = {host for _, host in generation.ranks} if not generation.reason else set()
    for host in sorted(hosts):
        for record in host_events.get(host, ()):
            if (
                record["type"] == records.GENERATION_ENDED
                and integer(record, "generation") == generation.generation
                and text(record, "reason")
            ):
                return GenerationView(
                    generation.generation,
                    generation.started_at,
                    generation.resumes,
                    text(record, "reason"),
                    generation.ranks,
                )
    return generation


def _model(folder: RunFolder, told: RunTold, result: Record, generation: GenerationView | None) -> str | None:
    said = text(told.end or {}, "model")
    return str(folder.path / said) if said else lineage.model_path(folder, result, generation)


def _exit_code(told: RunTold, said: Verdict) -> int:
    code = integer(told.end or {}, "exit_code")
    return code if code is not None else int(EXIT_CODE_OF[said.state])


def _ended_at(told: RunTold, host_events: HostEvents, progress: Mapping[int, Progress]) -> float | None:
    if told.end is not None:
        return number(told.end, "t")
    # Nobody told the end: the last that was heard of the run is the best that can be said.
    heard = [number(record, "t") for events in host_events.values() for record in events]
    heard += [number(p.step, "t") for p in progress.values() if p.step]
    return max((t for t in heard if t is not None), default=told.heard_at)
