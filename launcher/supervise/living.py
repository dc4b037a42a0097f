"""What runs have alive on other machines, and the end of what nobody minds there: all hosts at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.check.many import Tell, each, untold
from launcher.errors import LauncherError, NotFitError
from launcher.hosts.door import enter
from launcher.hosts.session import Session
from launcher.hosts.talk import Talk

VERB = "living"
KEPT = "kept"
Wanted = Callable[["FarProcess"], bool]
_ANSWER_S = 30.0


@dataclass(frozen=True)
class FarProcess:
    """A living process of some run on the host `on`. `minded`: agent or warden watch over it; else it is left over."""

    on: str
    pid: int
    start_time: int  # in clock ticks since that machine's boot; with the pid it names the process
    created: float  # seconds since 1970
    kind: str  # agent, warden, worker; kept: what stays warm after its run
    run: str
    host: str  # what its run calls that host
    rank: int | None
    minded: bool
    command: str
    killed: bool = False

    @property
    def can_go(self) -> bool:
        """Whether no run would miss it."""
        return not self.minded or self.kind == KEPT


@dataclass(frozen=True)
class _Seen:
    machine: str
    processes: Sequence[FarProcess]


def living(
    workdirs: Mapping[str, str],
    sessions: Mapping[str, Session],
    *,
    here: str = "",
    kill: Wanted | None = None,
    tell: Tell = untold,
) -> tuple[list[FarProcess], dict[str, LauncherError]]:
    """(Every process of every run of the user on these hosts, {host: why it is not known there}). Blocks.

    `workdirs` are the hosts' own. Hosts that are one machine see the same processes, which are told once, of the first;
    those of the machine `here` are left out. `kill` ends what it says of what nobody minds or is kept, and no other.
    """

    def ask(name: str) -> _Seen:
        return _ask(sessions[name], workdirs[name], kill)

    seen, failed = each(list(sessions), ask, what="looking at", tell=tell)
    found: dict[tuple[str, int, int], FarProcess] = {}
    for one in seen.values():
        for process in one.processes if one.machine != here else ():
            key = (one.machine, process.pid, process.start_time)
            if key not in found or process.killed:
                found[key] = process
    return list(found.values()), failed


def all_of_them(_: FarProcess) -> bool:
    """For `kill`."""
    return True


def this_machine() -> str:
    """As the errand says it of a host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {os.getuid()}"  # noqa: PTH115 - no path: the kernel's word
    except OSError:
        return ""


def _ask(session: Session, workdir: str, kill: Wanted | None) -> _Seen:
    talk = Talk(session.name, enter(session, VERB, workdir=workdir))
    try:
        talk.send({"type": "living"})
        machine, found = "", []
        while True:
            message = _heard(talk, "living")
            machine = str(message["machine"])
            found += [_process(session.name, one) for one in message["found"]]
            if message["last"]:
                break
        left = [(one.pid, one.start_time) for one in found if kill and one.can_go and kill(one)]
        killed: set[int] = set()
        if left:
            talk.send({"type": "kill", "processes": left})
            killed = {int(pid) for pid in _heard(talk, "kill")["killed"]}
        talk.end_input()
    except (ValueError, TypeError, LookupError) as error:
        raise NotFitError(f"{session.name} answers with what is not our protocol: {error}") from error
    finally:
        talk.close()
    return _Seen(machine, [FarProcess(**{**vars(one), "killed": one.pid in killed}) for one in found])


def _heard(talk: Talk, kind: str) -> Mapping[str, Any]:
    frame = talk.receive(timeout_s=_ANSWER_S)
    if frame is None:
        raise NotFitError(f"{talk.host}: looking ended without a word", hint="run the command again")
    if frame[0]["type"] == "error":
        raise NotFitError(f"{talk.host}: what lives there cannot be found: {str(frame[0].get('why', '?'))[:500]}")
    if frame[0]["type"] != kind:
        raise ValueError(f"{frame[0]['type']} came, and {kind} was expected")
    return frame[0]


def _process(on: str, told: Mapping[str, Any]) -> FarProcess:
    rank = told["rank"]
    return FarProcess(
        on=on,
        pid=int(told["pid"]),
        start_time=int(told["start_time"]),
        created=float(told["created"]),
        kind=str(told["kind"]),
        run=str(told["run"]),
        host=str(told["host"]),
        rank=None if rank is None else int(rank),
        minded=bool(told["minded"]),
        command=str(told["command"]),
    )
