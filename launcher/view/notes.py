"""What happened to a run between two looks at it, in lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.errors import some
from launcher.runs.model import GenerationView, RankView, RunView
from launcher.runs.told import how_ended
from launcher.view.figures import epoch_line, seconds
from worker.contract.states import RANK_ALIVE, RankState

# The others are told by the run's own state, and naming victims would only hide the cause.
_TOLD = frozenset({RankState.FAILED, RankState.RESCUED, RankState.UNKILLABLE})


def notes(before: RunView | None, after: RunView) -> Iterator[str]:
    """One line for each thing that is new in `after`."""
    if before is after:
        return
    yield from _lives(before, after)
    yield from _epochs(before, after)
    yield from _ranks(before, after)
    known = before.divergences if before else ()
    yield from (divergence.message for divergence in after.divergences if divergence not in known)
    yield from _links(before, after)
    yield from after.remarks[len(before.remarks) if before else 0 :]
    if before is None or (before.state, before.reason) != (after.state, after.reason):
        yield state_line(after)


def state_line(view: RunView) -> str:
    """A run's state and its reason."""
    return f"{view.state}: {view.reason}" if view.reason else str(view.state)


def _lives(before: RunView | None, after: RunView) -> Iterator[str]:
    """Generations that were begun, and failures that were answered with another one, as they followed each other."""
    known = before.generation if before else 0
    told = [
        (generation.generation, 0, _generation(generation))
        for generation in after.generations
        if generation.generation > known
    ]
    for failure in after.failures[len(before.failures) if before else 0 :]:
        when = f"in {seconds(failure.pause_s)}" if failure.pause_s else "now"
        how = "the generation ends, and the next one begins" if failure.planned else "the next generation begins"
        told.append((failure.generation, 1, f"{failure.message}; {how} {when}"))
    yield from (text for *_, text in sorted(told, key=lambda one: one[:2]))


def _generation(generation: GenerationView) -> str:
    hosts = sorted({host for _, host in generation.ranks})
    on = hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts"
    count = len(generation.ranks)
    resumes = f", from {generation.resumes}" if generation.resumes else ""
    gone = [f"{host} ({why.splitlines()[0]})" if why else host for host, why in generation.without.items()]
    without = f"; without {some(gone)}" if gone else ""
    return f"generation {generation.generation}: {count} worker{'s' if count != 1 else ''} on {on}{resumes}{without}"


def _ranks(before: RunView | None, after: RunView) -> Iterator[str]:
    known = {r.rank: r for r in before.ranks} if before and before.generation == after.generation else {}
    for rank in after.ranks:
        was = known.get(rank.rank)
        if rank.state in _TOLD and (was is None or was.state != rank.state):
            yield f"rank {rank.rank} on {rank.host} {_end(rank)}"


def _links(before: RunView | None, after: RunView) -> Iterator[str]:
    known = before.unreachable if before else {}
    for host, why in after.unreachable.items():
        if host not in known:
            yield f"the connection to {host} is lost ({why}); training goes on there"
    for host in known:
        if host not in after.unreachable and not after.ended:
            yield f"the connection to {host} is back"


def _end(rank: RankView) -> str:
    if rank.state in RANK_ALIVE:
        return f"is {rank.state} (pid {rank.pid})"
    how = f" with {how_ended(rank.exit_code, rank.signal)}" if rank.state == RankState.FAILED else ""
    return f"{rank.state}{how}"


def _epochs(before: RunView | None, after: RunView) -> Iterator[str]:
    known = {(e.generation, e.epoch) for e in before.epochs} if before else set()
    for epoch in after.epochs:
        if (epoch.generation, epoch.epoch) not in known:
            yield epoch_line(epoch, after.epochs_planned)
