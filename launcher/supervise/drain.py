"""Do without hosts of a living run: ask its coordinator, then follow in its journal until they are free."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from launcher.errors import RunError, UsageError
from launcher.runs.alive import coordinates
from launcher.runs.fields import integer, objects, text
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read
from launcher.runs.told import run_state
from launcher.supervise import control
from worker.contract import records
from worker.contract.layout import parse_checkpoint_name
from worker.contract.records import Record
from worker.contract.states import RunState

POLL_S = 0.2


@dataclass(frozen=True)
class Drained:
    """How it ended. `left`: the hosts that are free. `state` is None while the run goes on, else what it ended as.

    `gone`: there is no coordinator any more, and it has not said what became of the hosts.
    """

    left: tuple[str, ...]
    state: RunState | None
    message: str = ""
    resumes: str = ""  # the checkpoint from which the run goes on, or will
    gone: bool = False


def ask(run: RunFolder, hosts: Sequence[str], *, park: bool) -> int:
    """Ask for it; returns the number of the newest record before. Raises RunError or UsageError."""
    since = max((integer(record, "seq") or 0 for record in read(run.journal)), default=0)
    answer = control.ask_to_drain(run, hosts, "launcher drain", park=park)
    if answer is None:
        raise RunError(
            f"{run.name} has no coordinator that answers, and only that can go on without a host",
            hint=f"put another one in its place: launcher attach {run.name}. Or stop the run: launcher down {run.name}",
        )
    if problem := str(answer.get("problem") or ""):
        raise UsageError(problem, hint=str(answer.get("hint") or "").replace("RUN", run.name))
    return since


def follow(run: RunFolder, hosts: Sequence[str], since: int, tell: Callable[[str], None]) -> Drained:
    """Wait until all hosts are free or the run has ended; what happens on the way is told, a line each. Blocks."""
    waiting, resumes, heard = set(hosts), "", since
    while True:
        there = coordinates(run)  # before the journal is read: what a coordinator wrote last is not missed
        for record in _after(run, heard):
            heard = integer(record, "seq") or heard
            resumes = text(record, "resumes") if record["type"] == records.REPLANNED else resumes
            if line := _line(record):
                tell(line)
            if record["type"] == records.HOST_LEFT:
                waiting.discard(text(record, "host"))
            elif record["type"] == records.RUN_ENDED:
                state = run_state(text(record, "state")) or RunState.FAILED
                return Drained(tuple(hosts), state, text(record, "message"), resumes)
        if not waiting or not there:
            left = tuple(host for host in hosts if host not in waiting)
            return Drained(left, None, "", resumes, gone=bool(waiting))
        time.sleep(POLL_S)


def _after(run: RunFolder, seq: int) -> Iterator[Record]:
    return (record for record in read(run.journal) if (integer(record, "seq") or 0) > seq)


def _line(record: Record) -> str:
    kind, host = record["type"], text(record, "host")
    if kind == records.HOST_LEAVING:
        return f"{host}: all workers save at the next step they agree on, and stop"
    if kind == records.RESTART:
        return f"generation {integer(record, 'generation')} has ended: {text(record, 'message')}"
    if kind == records.REPLANNED and (saved := parse_checkpoint_name(text(record, "resumes"))):
        return f"the checkpoint of step {saved[1]} is where the others have it"
    if kind == records.GENERATION_STARTED:
        ranks = objects(record, "ranks")
        hosts = {text(rank, "host") for rank in ranks}
        workers = f"{len(ranks)} worker{'s' * (len(ranks) != 1)}"
        return f"generation {integer(record, 'generation')}: {workers} on {', '.join(sorted(hosts))}"
    if kind == records.HOST_LEFT:
        return f"{host} is free"
    return ""
