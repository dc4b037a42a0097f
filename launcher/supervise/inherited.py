"""The generation at which a coordinator took over, and whose ranks the one before may not have started."""

from __future__ import annotations

from pathlib import Path

from launcher.runs.fields import integer
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read
from launcher.supervise.core.machine import Machine
from worker.contract import records


def has_started(run: RunFolder, host: str, generation: int) -> bool:
    """Whether the host's ranks of that generation were ever started, as far as its journal is here."""
    return any(
        record["type"] == records.RANK_STARTED and integer(record, "generation") == generation
        for record in read(Path(run.host(host).journal))
    )


class Inherited:
    """`generation`: the one that was found begun; 0 for a coordinator that has taken nothing over."""

    def __init__(self, run: RunFolder, generation: int) -> None:
        self._run = run
        self._generation = generation
        self._told: set[str] = set()

    def is_yet_to_start(self, host: str, machine: Machine) -> bool:
        """Whether an agent is to be started on a host that has none, since no rank of this generation ever was there:
        an agent that is told of none leaves soon. Only once of each host: if it does not start, the host is lost."""
        generation, is_ending = machine.plan.generation, machine.stopping or machine.ending or machine.breaking
        if generation != self._generation or is_ending or host in self._told:
            return False
        self._told.add(host)
        return not has_started(self._run, host, generation)
