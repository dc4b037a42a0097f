"""Who lived when, and at whose word."""

from __future__ import annotations

import itertools

from tests.chaos.checker.evidence import Evidence, Record

# Of what a host's own journal may have lost a line, or half of one: its disk was full, or the machine stopped.
_TEARS = ("FILL_HOST", "FILL_HOME")


def one_incarnation(evidence: Evidence) -> list[str]:
    """By the agents' word, and by locks that the ranks themselves held."""
    problems = [f"{path.name}: {path.read_text()}" for path in sorted(evidence.witness.glob("twins-*"))]
    spans: dict[int, list[tuple[float, float, str]]] = {}
    for host, journal in evidence.agents.items():
        open_: dict[int, Record] = {}
        for record in journal.of("rank_started", "rank_ended"):
            rank = record["rank"]
            if record["type"] == "rank_started":
                if rank in open_:
                    problems.append(f"{host}: rank {rank} was started twice: {open_[rank]} and {record}")
                open_[rank] = record
            elif rank in open_:
                begun = open_.pop(rank)
                if begun["generation"] != record["generation"]:
                    problems.append(f"{host}: {record} ends another life than {begun}")
                spans.setdefault(rank, []).append((begun["t"], record["t"], f"{host} g{begun['generation']}"))
        problems += [f"{host}: nobody wrote down the end of {record}" for record in open_.values()]
    for rank, lived in spans.items():
        lived.sort()
        for (_, end, one), (start, _, other) in itertools.pairwise(lived):
            if start < end:
                problems.append(f"rank {rank} lived twice: {other} began {end - start:.3f} s before {one} had ended")
    return problems


def no_start_without_a_term(evidence: Evidence) -> list[str]:
    """Terms only rise, every life was begun under one, and each agent obeyed that one, or a later coordinator who had
    found no newer life: it may have to finish a start."""
    problems = []
    term, terms = 0, {}
    for record in evidence.run.of("coordinator_started", "generation_started"):
        if record["type"] == "coordinator_started":
            if record["term"] <= term:
                problems.append(f"a coordinator of term {record['term']} came after one of {term}")
            term = record["term"]
        elif record["generation"] in terms:
            problems.append(f"generation {record['generation']} was begun twice")
        else:
            terms[record["generation"]] = term
    if list(terms) != sorted(terms):
        problems.append(f"generations were begun in the order {list(terms)}")
    for host, journal in evidence.agents.items():
        problems += _of_agent(evidence, host, journal.of("commanded_by", "rank_started"), terms)
    return problems


def _of_agent(evidence: Evidence, host: str, records: list[Record], terms: dict[int, int]) -> list[str]:
    problems = []
    obeyed = newest = 0
    for record in records:
        if record["type"] == "commanded_by":
            if record["term"] < obeyed:
                problems.append(f"{host}: obeyed term {record['term']} after {obeyed}")
            obeyed = record["term"]
            continue
        generation, rank = record["generation"], record["rank"]
        if generation < newest:
            problems.append(f"{host}: rank {rank} of generation {generation} was started after one of {newest}")
        newest = max(newest, generation)
        if generation not in terms:
            problems.append(f"{host}: rank {rank} was started in a generation {generation} that nobody began")
        elif not terms[generation] <= obeyed or any(
            other > generation and term < obeyed for other, term in terms.items()
        ):
            problems.append(
                f"{host}: rank {rank} of generation {generation}, begun under term {terms[generation]}, "
                f"was started under {obeyed or 'none'}"
            )
        placed = {one["rank"]: one["host"] for one in evidence.generations.get(generation, {}).get("ranks", ())}
        if placed.get(rank, host) != host:
            problems.append(f"{host}: rank {rank} of generation {generation} belongs to {placed[rank]}")
    return problems


def journals_whole(evidence: Evidence) -> list[str]:
    """Numbered without a gap, and every line a record, where the disk had room for it."""
    problems = []
    journals = {"the run": (evidence.run, bool(evidence.struck("FILL_HOME")))}
    for host, journal in evidence.agents.items():
        journals[host] = (journal, bool(evidence.struck(*_TEARS)))
    for name, (journal, may_tear) in journals.items():
        numbers = [record.get("seq") for record in journal.records]
        if numbers != list(range(1, len(numbers) + 1)):
            gap = next(place for place, number in enumerate(numbers) if number != place + 1)
            problems.append(f"{name}: after record {gap} comes {numbers[gap]}")
        if journal.torn and not may_tear:
            problems.append(f"{name}: {journal.torn} lines of its journal are no records")
    return problems
