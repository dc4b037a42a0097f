"""What goes into the agent's core and what comes out of it: plain values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Union

from ..contract.records import Record
from ..contract.wire import Message
from .orders import RankOrder

# Events: what happened, as the shell saw it.


@dataclass(frozen=True)
class Connected:
    client: int


@dataclass(frozen=True)
class Disconnected:
    client: int


@dataclass(frozen=True)
class Received:
    client: int
    message: Message


@dataclass(frozen=True)
class Started:
    """The rank's program is running: its exec succeeded."""

    rank: int
    pid: int
    start_time: int


@dataclass(frozen=True)
class NotStarted:
    rank: int
    message: str
    hint: str


@dataclass(frozen=True)
class Exited:
    """The rank's process is reaped and its progress file read to the end. Exactly one of the two is set."""

    rank: int
    exit_code: Optional[int] = None
    signal: Optional[str] = None


@dataclass(frozen=True)
class Told:
    """A record of the rank's progress file."""

    rank: int
    record: Record


@dataclass(frozen=True)
class Published:
    """The checkpoint was whole and lies under its final name; `pruned` went to make room."""

    rank: int
    name: str
    epoch: Any
    why: Any
    pruned: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class NotPublished:
    """Not whole, with the reason; or, with an empty `why`, a copy of one that is published already."""

    rank: int
    name: str
    why: str


@dataclass(frozen=True)
class OutputMoved:
    rank: int
    problem: str = ""


@dataclass(frozen=True)
class Swept:
    """No process of the generation is left."""


@dataclass(frozen=True)
class Stuck:
    """These processes are still there ten seconds after the sweep's first SIGKILL."""

    pids: List[int]


@dataclass(frozen=True)
class DiskFull:
    message: str


@dataclass(frozen=True)
class Bereft:
    """The agent cannot stay (its warden died, or it was sent SIGTERM): end everything within ten seconds."""

    reason: str


RankEvent = Union[Started, NotStarted, Exited, Told, Published, NotPublished, OutputMoved, Swept, Stuck]
RANK_EVENTS = (Started, NotStarted, Exited, Told, Published, NotPublished, OutputMoved, Swept, Stuck)
Event = Union[Connected, Disconnected, Received, DiskFull, Bereft, RankEvent]

# Instructions: what the shell is to do, in this order, except that signals may go first.


@dataclass(frozen=True)
class Send:
    client: int
    message: Message


@dataclass(frozen=True)
class Follow:
    """Send this client every event after `since`, those of the journal and those to come; nobody else from now on."""

    client: int
    since: int


@dataclass(frozen=True)
class Write:
    """Append to the journal. The record has its number; the shell adds the time."""

    record: Record


@dataclass(frozen=True)
class Spawn:
    generation: int
    order: RankOrder


@dataclass(frozen=True)
class Ask:
    """Write the request to stop to the rank's control pipe."""

    rank: int


@dataclass(frozen=True)
class Kill:
    """Signal the rank and its process group; with SIGKILL, all of its descendants too."""

    rank: int
    signal: str


@dataclass(frozen=True)
class Publish:
    """Verify a rank's checkpoint, move it to its final name and prune; answered by Published or NotPublished."""

    generation: int
    rank: int
    name: str
    epoch: Any
    why: Any
    keep: Optional[int]


@dataclass(frozen=True)
class MoveOutput:
    """Move what the rank left in its output folder to the run's; `replace` what lies there by the same name."""

    generation: int
    rank: int
    replace: bool


@dataclass(frozen=True)
class Sweep:
    """Kill every descendant that is left; answered by Swept."""


@dataclass(frozen=True)
class Leave:
    """The last instruction: nothing of the run is left to mind."""


Instruction = Union[Send, Follow, Write, Spawn, Ask, Kill, Publish, MoveOutput, Sweep, Leave]


class Outbox:
    """Collects instructions and numbers the journal's records."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self._instructions: List[Instruction] = []

    def add(self, instruction: Instruction) -> None:
        self._instructions.append(instruction)

    def write(self, type_: str, **fields: Any) -> None:
        self.seq += 1
        record: Dict[str, Any] = {"seq": self.seq, "type": type_, **fields}
        self.add(Write(record))

    def take(self) -> List[Instruction]:
        taken, self._instructions = self._instructions, []
        return taken
