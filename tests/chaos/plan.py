"""What will be done to a run, drawn from a seed alone: the same seed and number give the same history. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

Ground = Literal["net", "sshd", "local"]
Direction = Literal["both", "in", "out"]

STEPS_PER_EPOCH = 5
MOST_EPOCHS = 80
TAKES_OVER_FAR = True  # whether `attach` takes a run on other machines in hand: the one place that says so


class Kind(Enum):
    """What can be done to a run. The value is how it is told and counted."""

    KILL_WORKER = "kill a worker"
    KILL_CHIEF = "kill the chief"
    KILL_AGENT = "kill an agent"
    KILL_WARDEN = "kill a warden"
    KILL_ZYGOTE = "kill a zygote"
    KILL_HOST = "kill all of a host's processes"
    CRASH = "crash a host"
    REBOOT = "reboot a host"
    KILL_SSHD = "kill an sshd"
    FREEZE_WORKER = "freeze a worker"
    FREEZE_AGENT = "freeze an agent"
    FREEZE_COORDINATOR = "freeze the coordinator"
    KILL_COORDINATOR = "kill the coordinator"
    CUT_HOME = "cut a host off from home"
    CUT_PEERS = "cut a host off from its peers"
    CUT_ALL = "cut a host off"
    SLOW = "slow a link"
    FILL_HOST = "fill a host's disk"
    FILL_HOME = "fill the disk at home"
    CORRUPT = "corrupt a half-sent checkpoint"


class When(Enum):
    """What of the run a fault waits for, counted from the fault before it."""

    AT_ONCE = "at once"
    STEPS = "steps"
    SAVED = "checkpoints"
    RESTARTING = "while it restarts"
    STARTING = "while it starts"
    ENDING = "as it ends"


ENDS_GENERATION = {
    Kind.KILL_WORKER,
    Kind.KILL_CHIEF,
    Kind.KILL_AGENT,
    Kind.KILL_WARDEN,
    Kind.KILL_HOST,
    Kind.CRASH,
    Kind.REBOOT,
}
FULL = {Kind.FILL_HOST, Kind.FILL_HOME}

# How often each kind is drawn, by what the hosts can suffer.
_ANYWHERE = {
    Kind.KILL_WORKER: 5,
    Kind.KILL_CHIEF: 5,
    Kind.KILL_AGENT: 4,
    Kind.KILL_WARDEN: 2,
    Kind.KILL_ZYGOTE: 2,
    Kind.KILL_HOST: 3,
    Kind.FREEZE_WORKER: 3,
    Kind.FREEZE_AGENT: 3,
    Kind.FREEZE_COORDINATOR: 3,
}
_LOCAL = {Kind.KILL_COORDINATOR: 8, Kind.FILL_HOME: 3}
_SSHD = {Kind.CRASH: 3, Kind.KILL_SSHD: 3, Kind.CORRUPT: 3}
_NET = {
    **_SSHD,
    Kind.REBOOT: 2,
    Kind.CUT_HOME: 4,
    Kind.CUT_PEERS: 2,
    Kind.CUT_ALL: 3,
    Kind.SLOW: 4,
    Kind.FILL_HOST: 3,
    Kind.FILL_HOME: 2,
}


@dataclass(frozen=True)
class Fault:
    """One blow: what, to whom, when, and for how long."""

    number: int
    kind: Kind
    when: When
    count: int  # of steps or checkpoints to wait for
    pause_s: float  # from the moment that it waits for
    host: int  # which host of the run
    rank: int
    direction: Direction
    hold_s: float  # until it is undone, where it can be

    def __str__(self) -> str:
        whom = f" {self.rank}" if self.kind in (Kind.KILL_WORKER, Kind.FREEZE_WORKER) else ""
        moment = f"after {self.count} {self.when.value}" if self.count else self.when.value
        return f"{self.kind.value}{whom} {moment}"


@dataclass(frozen=True)
class History:
    """One run and what is done to it."""

    seed: int
    number: int
    ground: Ground
    hosts: tuple[int, ...]  # which of the lab's hosts the run is on, a worker on each
    epochs: int
    stop: bool  # it is stopped in the middle and resumed
    faults: tuple[Fault, ...]
    restarts: int = 100  # so many failures are answered by itself; then it fails, and is resumed
    lease_s: int = 3600  # for which it goes on without a coordinator; then it is parked, and resumed

    @property
    def workers(self) -> int:
        return len(self.hosts)

    @property
    def interruptions(self) -> dict[int, str]:
        """Exit codes and states with which it may end before it was resumed."""
        by_budget = {1: "failed"} if self.restarts < 100 else {}
        by_lease = {75: "parked"} if self.lease_s < 3600 else {}
        return {**by_budget, **by_lease, **({130: "stopped"} if self.stop else {})}

    @property
    def steps(self) -> int:
        return self.epochs * STEPS_PER_EPOCH

    @property
    def name(self) -> str:
        return f"chaos-{self.seed}-{self.number}"


def draw(seed: int, number: int, far: Ground, faults: int = 8, lab: int = 4) -> History:
    """The history of that number. `far`: what the hosts are that are not this machine ("local": there are none)."""
    chance = random.Random(f"chaos {seed} {number}")
    ground: Ground = "local" if far == "local" or chance.random() < 0.35 else far
    workers = lab if chance.random() < 0.1 else min(2, lab)
    hosts = tuple(sorted(chance.sample(range(lab), workers))) if ground != "local" else tuple(range(workers))
    weights = _weights(ground)
    drawn: list[Fault] = []
    for place in range(faults):
        drawn.append(_fault(chance, place, drawn, weights, workers, last=place == faults - 1))
    stop, restarts, lease_s = chance.random() < 0.15, 100, 3600
    special = random.Random(f"special {seed} {number}").random()
    if not stop and special < 0.1:
        restarts = 1
    elif not stop and special < 0.2 and Kind.KILL_COORDINATOR in weights:
        lease_s = 4
        place = len(drawn) // 2
        drawn[place] = replace(drawn[place], kind=Kind.KILL_COORDINATOR, when=When.STEPS, count=5, hold_s=12.0)
    steps = sum(_steps_of(fault) for fault in drawn) + 40
    epochs = min(MOST_EPOCHS, max(12, -(-steps // STEPS_PER_EPOCH)))
    return History(seed, number, ground, hosts, epochs, stop, tuple(drawn), restarts, lease_s)


def _weights(ground: Ground) -> dict[Kind, int]:
    own = {"local": _LOCAL, "sshd": _SSHD, "net": _NET}[ground]
    taken_over = {Kind.KILL_COORDINATOR: 6} if ground != "local" and TAKES_OVER_FAR else {}
    return {**_ANYWHERE, **own, **taken_over}


def _fault(
    chance: random.Random, number: int, before: list[Fault], weights: dict[Kind, int], workers: int, *, last: bool
) -> Fault:
    kind = chance.choices(list(weights), list(weights.values()))[0]
    when, count = _moment(chance, before[-1].kind if before else None, last=last)
    if when is not When.STEPS and kind is Kind.CORRUPT:
        when, count = When.STEPS, chance.randint(1, 15)  # it waits for a transfer of its own making
    rank = 0 if kind is Kind.KILL_CHIEF else chance.randrange(1, workers)
    if kind is Kind.FREEZE_WORKER:
        rank = chance.randrange(workers)
    hold = chance.uniform(0.2, 2.5)
    if kind in (Kind.FREEZE_WORKER, Kind.CUT_ALL, Kind.CUT_PEERS) and chance.random() < 0.15:
        hold = 16.0  # longer than TensorFlow waits for a silent peer
    elif kind in (Kind.FREEZE_AGENT, Kind.FREEZE_COORDINATOR, Kind.CUT_HOME) and chance.random() < 0.3:
        hold = 5.0  # longer than `timeouts.host`
    direction: Direction = chance.choice(("both", "in", "out"))
    pause = chance.choice((0.0, chance.uniform(0.0, 0.6)))
    return Fault(number, kind, when, count, pause, chance.randrange(workers), rank, direction, hold)


def _moment(chance: random.Random, before: Kind | None, *, last: bool) -> tuple[When, int]:
    if last and chance.random() < 0.4:
        return When.ENDING, chance.randint(0, 6)
    if before in ENDS_GENERATION and chance.random() < 0.45:
        return chance.choice((When.RESTARTING, When.STARTING, When.AT_ONCE)), 0
    if before is not None and chance.random() < (0.6 if before in FULL else 0.15):
        return When.AT_ONCE, 0
    return (When.SAVED, chance.randint(1, 2)) if chance.random() < 0.2 else (When.STEPS, chance.randint(1, 20))


def _steps_of(fault: Fault) -> int:
    """About how many steps the run does until this fault has been struck and undone."""
    waited = {When.STEPS: fault.count, When.SAVED: 10 * fault.count}.get(fault.when, 0)
    goes_on = fault.kind not in ENDS_GENERATION and fault.hold_s < 10
    return waited + (int(fault.hold_s * 12) if goes_on else 5) + 8
