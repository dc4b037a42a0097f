"""Judges a history from files alone. Shares no code with the launcher, the agents, or the nemesis: only the documented
formats (docs/run-folder.md), read anew here.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.checker import bits, ending, home, lineage, lives
from tests.chaos.checker.evidence import Evidence

INVARIANTS: dict[str, Callable[[Evidence], list[str]]] = {
    "one incarnation of each rank at a time": lives.one_incarnation,
    "no start without a term": lives.no_start_without_a_term,
    "journals are whole": lives.journals_whole,
    "no step counted twice": lineage.counted_once,
    "no finished step is lost while a worker lives": lineage.nothing_finished_lost,
    "checkpoints at home equal the hosts'": home.checkpoints_equal,
    "logs are whole": home.logs_whole,
    "output at home equals the host's": home.output_equal,
    "weights equal an untouched run's": bits.equal_untouched,
    "the run ended as it should": ending.ended_as_it_should,
    "nothing is alive afterwards": ending.nothing_alive,
}


def check(evidence: Evidence) -> list[str]:
    """What does not hold, each with its invariant; empty if all does."""
    return [f"{name}: {problem}" for name, judge in INVARIANTS.items() for problem in judge(evidence)]
