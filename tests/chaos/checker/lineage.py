"""Which steps count: each once, and none that was finished is done again while somebody could have saved it."""

from __future__ import annotations

import itertools

from tests.chaos.checker.evidence import Evidence, parse_name, read_journal

_ONE_DIES = {"KILL_WORKER", "KILL_CHIEF"}


def counted_once(evidence: Evidence) -> list[str]:
    """The lives that count follow each other without overlap, and each epoch is told of once in them."""
    problems = []
    starts = {generation: parse_name(record["resumes"]) for generation, record in evidence.generations.items()}
    for generation, (source, step) in starts.items():
        if not source:
            earlier = [g for g in starts if g < generation and _reached(evidence, g) and published(evidence, g)]
            if earlier:
                problems.append(f"generation {generation} began anew, though {earlier} had published checkpoints")
            continue
        if source not in starts or source >= generation:
            problems.append(f"generation {generation} goes on from one of generation {source}")
        elif not starts[source][1] <= step <= max(_reached(evidence, source), starts[source][1]):
            problems.append(
                f"generation {generation} goes on from step {step} of generation {source}, which did "
                f"{starts[source][1]} to {_reached(evidence, source)}"
            )
    return problems + _epochs(evidence)


def lineage(evidence: Evidence) -> list[tuple[int, int, int]]:
    """(generation, first step, last step) of the lives that count, oldest first; the steps after first to last."""
    if not evidence.generations:
        return []
    generation = max(evidence.generations)
    end = _reached(evidence, generation)
    found: list[tuple[int, int, int]] = []
    while generation in evidence.generations and generation not in [one for one, _, _ in found]:
        source, start = parse_name(evidence.generations[generation]["resumes"])
        found.append((generation, start, max(start, end)))
        generation, end = source, start
    return found[::-1]


def _epochs(evidence: Evidence) -> list[str]:
    """The steps add up, and each epoch was told of by one life alone of those that count."""
    problems = []
    whole = sum(end - start for _, start, end in lineage(evidence))
    last = max((end for _, _, end in lineage(evidence)), default=0)
    if whole != last:
        problems.append(f"{whole} steps were counted on the way to step {last}: {lineage(evidence)}")
    told: dict[int, list[int]] = {}
    for generation, start, end in lineage(evidence):
        for journal in evidence.agents.values():
            for record in journal.of("rank_epoch"):
                if record["generation"] == generation and start < record["step"] <= end:
                    told.setdefault(record["epoch"], []).append(generation)
    problems += [f"epoch {epoch} was told by generations {twice}" for epoch, twice in told.items() if len(twice) > 1]
    return problems


def nothing_finished_lost(evidence: Evidence) -> list[str]:
    """Where all that happened in a life was that one rank was killed, the next goes on from the newest step told."""
    problems = []
    ordered = sorted(evidence.generations)
    for generation, after in itertools.pairwise(ordered):
        begun, ended = evidence.generations[generation]["t"], evidence.generations[after]["t"]
        # What was struck before and undone later was there, too.
        here = [s for s in evidence.strikes if s["t"] < ended and (s["undone"] or ended) >= begun]
        if len(here) != 1 or here[0]["kind"] not in _ONE_DIES or here[0]["t"] < begun:
            continue
        done, goes_on = _reached(evidence, generation), parse_name(evidence.generations[after]["resumes"])[1]
        if goes_on < done:
            problems.append(
                f"generation {generation} had told of step {done} when one rank was killed, and {after} began "
                f"from {goes_on}"
            )
    return problems


def _reached(evidence: Evidence, generation: int) -> int:
    """The highest step that any rank of a generation has told of, or saved."""
    highest = 0
    for room in evidence.rooms.values():
        for path in (room / f"g{generation}").glob("rank*.progress.jsonl"):
            highest = max([highest, *(r["step"] for r in read_journal(path).of("step", "saved"))])
    return highest


def published(evidence: Evidence, generation: int) -> bool:
    """Whether any host published a checkpoint of that generation that it had not pruned."""
    return any(
        record["generation"] == generation
        for journal in evidence.agents.values()
        for record in journal.of("checkpoint")
    )
