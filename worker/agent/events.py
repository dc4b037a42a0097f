"""What goes into the agent's core and what comes out of it: plain values. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union

from ..contract.records import Record
from ..contract.value import Value
from ..contract.wire import Message
from .orders import RankOrder

# Events: what happened, as the shell saw it.


class Connected(Value):
    client: int


class Disconnected(Value):
    client: int


class Received(Value):
    client: int
    message: Message


class Started(Value):
    """The rank's program is running: its exec succeeded."""

    rank: int
    pid: int
    start_time: int
    forked: bool = False  # off a zygote
    cold: str = ""  # why not, where that was wanted


class NotStarted(Value):
    rank: int
    message: str
    hint: str


class Exited(Value):
    """The rank's process is reaped and its progress file read to the end. Exactly one of the two is set."""

    rank: int
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    raised: str = ""  # the line with which Python ends a traceback, if that is how its log ends
    oom: str = ""  # of a SIGKILL that was none of ours: where the kernel says that memory had run out
    memory: str = ""  # and how full it was


class Told(Value):
    """A record of the rank's progress file."""

    rank: int
    record: Record


class Published(Value):
    """The checkpoint was whole and lies under its final name; `pruned` went to make room, `unfetched` of it before it
    was home, though it should not have.

    `arrays` is the hash of its arrays, or empty for a checkpoint that has none of that name.
    """

    rank: int
    name: str
    epoch: Any
    why: Any
    pruned: Tuple[str, ...] = ()
    arrays: str = ""
    unfetched: Tuple[str, ...] = ()


class NotPublished(Value):
    """Not whole, with the reason; or, with an empty `why`, a copy of one that is published already.

    A copy that holds other arrays than the published one comes with the reason and with `arrays`, the hash of its own.
    """

    rank: int
    name: str
    why: str
    arrays: str = ""


class OutputMoved(Value):
    rank: int
    problem: str = ""


class Stands(Value):
    """What a look at the rank found: the state of its process, and where it is, as its stacks say."""

    rank: int
    state: str = ""
    waits: Optional[bool] = None
    at: str = ""


class Swept(Value):
    """No process of the generation is left."""


class Stuck(Value):
    """These processes are still there ten seconds after the sweep's first SIGKILL."""

    pids: List[int]


class DiskFull(Value):
    message: str


class DiskRoom(Value):
    """The disk that was full has room again."""


class Termed(Value):
    """The agent was sent SIGTERM: its host has to go."""


class Bereft(Value):
    """The agent cannot stay (its warden died): end everything within ten seconds."""

    reason: str


class ZygoteReady(Value):
    """It has imported the trainer, which took so long."""

    pid: int
    start_time: int
    seconds: float


class ZygoteEnded(Value):
    pid: int
    reason: str


class ZygoteAdopted(Value):
    """One that this earlier run had kept serves on."""

    pid: int
    start_time: int
    run: str


class Kept(Value):
    """Agent and zygote are to stay when this run's is over: nothing of it is held any more."""

    pid: int
    start_time: int


class NotKept(Value):
    why: str


RankEvent = Union[Started, NotStarted, Exited, Told, Published, NotPublished, OutputMoved, Stands, Swept, Stuck]
RANK_EVENTS = (Started, NotStarted, Exited, Told, Published, NotPublished, OutputMoved, Stands, Swept, Stuck)
ZygoteEvent = Union[ZygoteReady, ZygoteEnded, ZygoteAdopted, Kept, NotKept]
ZYGOTE_EVENTS = (ZygoteReady, ZygoteEnded, ZygoteAdopted, Kept, NotKept)
Event = Union[Connected, Disconnected, Received, DiskFull, DiskRoom, Termed, Bereft, ZygoteEvent, RankEvent]

# Instructions: what the shell is to do, in this order, except that signals may go first.


class Send(Value):
    client: int
    message: Message


class Follow(Value):
    """Send this client every event after `since`, those of the journal and those to come; nobody else from now on."""

    client: int
    since: int


class Write(Value):
    """Append to the journal. The record has its number; the shell adds the time."""

    record: Record


class Spawn(Value):
    """Start a rank: off a zygote if `zygote` says so and it can be, which may take as long as `wait_s`; else cold."""

    generation: int
    order: RankOrder
    zygote: bool = False
    wait_s: float = 0.0


class Ask(Value):
    """Write the request to stop to the rank's control pipe."""

    rank: int


class TellOfLoss(Value):
    """Write to the rank's control pipe that another rank is gone, so that it does not wait for that one."""

    rank: int


class Kill(Value):
    """Signal the rank and its process group; with SIGKILL, all of its descendants too."""

    rank: int
    signal: str


class Look(Value):
    """See whether the rank's process is stopped, and have it write down its stacks; answered by Stands."""

    generation: int
    rank: int


class Publish(Value):
    """Verify a rank's checkpoint, move it to its final name and prune; answered by Published or NotPublished."""

    generation: int
    rank: int
    name: str
    epoch: Any
    why: Any
    keep: Optional[int]
    until_home: bool = False  # prune what is home, and nothing else as long as the disk has room


class MoveOutput(Value):
    """Move what the rank left in its output folder to the run's; `replace` what lies there by the same name."""

    generation: int
    rank: int
    replace: bool


class Sweep(Value):
    """Kill every descendant that is left; answered by Swept."""


class Keep(Value):
    """See that the zygote can stay for the next run, for so long; answered by Kept or NotKept."""

    seconds: float


class Leave(Value):
    """The last instruction: nothing of the run is left to mind."""


Instruction = Union[Send, Follow, Write, Spawn, Ask, TellOfLoss, Kill, Look, Publish, MoveOutput, Sweep, Keep, Leave]


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
