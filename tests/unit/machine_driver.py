"""A supervisor's machine and hosts that tell it what a test wants them to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from launcher.plan.model import HostPlan, LaunchPlan, RankPlan
from launcher.spec.model import RestartSpec
from launcher.supervise.core.events import AgentSaid, End, Event, HostReached, Instruction, MakePlan, PlanMade, Send
from launcher.supervise.core.machine import Machine
from launcher.supervise.core.policy import Policy
from worker.contract import records, wire
from worker.contract.states import RankState

NO_RESTART = RestartSpec(max=0)


def make_plan(
    hosts: dict[str, int], generation: int = 1, resumes: str = "", at_work: Collection[str] | None = None
) -> LaunchPlan:
    """A plan with so many workers on each host that is at work."""
    ranks: list[RankPlan] = []
    host_plans = []
    for name, workers in hosts.items():
        mine = range(len(ranks), len(ranks) + (workers if at_work is None or name in at_work else 0))
        host_plans.append(HostPlan(name, True, f"/runs/r/hosts/{name}", "/code", tuple(mine), workers))
        ranks += [
            RankPlan(
                rank=rank,
                host=name,
                address="127.0.0.1",
                port=20000 + 100 * generation + rank,
                gpus=(),
                threads=1,
                argv=("python", "/code", "train"),
                cwd="/",
                env={},
                secrets=(),
                files={},
                stop="message",
            )
            for rank in mine
        ]
    return LaunchPlan("run", generation, tuple(host_plans), tuple(ranks), resumes)


class Driver:
    """Feeds a machine what hosts say, numbering their records, and keeps every instruction."""

    def __init__(self, hosts: dict[str, int], restart: RestartSpec = NO_RESTART) -> None:
        self.hosts = hosts
        first = list(hosts)[: len(hosts) - restart.spares]
        self.machine = Machine(make_plan(hosts, at_work=first), 3, 15, Policy(restart, jitter=lambda: 1.0))
        self.now = 0.0
        self.all: list[Instruction] = list(self.machine.begin(self.now))
        self.seq = dict.fromkeys(hosts, 0)

    def tell(self, event: Event) -> list[Instruction]:
        instructions = self.machine.handle(event, self.now)
        self.all += instructions
        return instructions

    def say(self, host: str, type_: str, **fields: Any) -> list[Instruction]:
        self.seq[host] += 1
        fields.setdefault("generation", self.machine.plan.generation)
        event = {"type": type_, "seq": self.seq[host], "t": self.now, **fields}
        return self.tell(AgentSaid(host, {"type": wire.EVENT, "event": event}))

    def start(self) -> list[Instruction]:
        for host in self.hosts:
            self.tell(HostReached(host, {"type": wire.HELLO, "major": wire.MAJOR, "seq": 0}))
        result: list[Instruction] = []
        for host in self.hosts:
            result = self.tell(AgentSaid(host, {"type": wire.COMMANDED, "term": 3}))
        return result

    def reconnect(self, host: str, generation: int) -> list[Instruction]:
        """A fresh stream to an agent that had come as far as `generation`; what it is told once it obeys."""
        hello = {"type": wire.HELLO, "major": wire.MAJOR, "seq": self.seq[host], "generation": generation}
        self.tell(HostReached(host, hello))
        return self.tell(AgentSaid(host, {"type": wire.COMMANDED, "term": 3}))

    def train(self) -> None:
        self.start()
        for rank in self.machine.plan.ranks:
            self.say(rank.host, records.RANK_FIRST_STEP, rank=rank.rank, step=1)

    def rank_ends(self, rank: int, state: RankState, **fields: Any) -> list[Instruction]:
        host = self.machine.plan.ranks[rank].host
        return self.say(host, records.RANK_ENDED, rank=rank, state=state.value, **fields)

    @property
    def end(self) -> End:
        (end,) = [i for i in self.all if isinstance(i, End)]
        return end

    def stops(self) -> list[tuple[str, str]]:
        sends = [i for i in self.all if isinstance(i, Send) and i.message["type"] == wire.STOP]
        return [(s.host, str(s.message["how"])) for s in sends]

    # What is about restarts.

    def begins_steps(self, step: int = 1) -> None:
        """Every rank of the generation finishes its first step."""
        for rank in self.machine.plan.ranks:
            self.say(rank.host, records.RANK_FIRST_STEP, rank=rank.rank, step=step)

    def breaks(self, rank: int = 0, *, told: str = "", step: int | None = None, **how: Any) -> list[Instruction]:
        """A rank dies of its own accord, the others rescue, and every host's part of the generation ends."""
        host = self.machine.plan.ranks[rank].host
        if told:
            self.say(host, records.RANK_FAILURE, rank=rank, reason="error", message=told)
        self.rank_ends(rank, RankState.FAILED, step=step, **(how or {"signal": "SIGKILL"}))
        for other in self.machine.plan.ranks:
            if other.rank != rank:
                self.rank_ends(other.rank, RankState.RESCUED, step=step, exit_code=81)
        instructions: list[Instruction] = []
        for name in self.machine.at_work:
            instructions = self.say(name, records.GENERATION_ENDED)
        return instructions

    def plans(self, resumes: str = "") -> list[Instruction]:
        """The plan that was asked for is made."""
        wanted = self.wanted
        return self.tell(PlanMade(make_plan(self.hosts, wanted.generation, resumes, wanted.at_work)))

    @property
    def wanted(self) -> MakePlan:
        """The newest plan that was asked for."""
        return [i for i in self.all if isinstance(i, MakePlan)][-1]

    @property
    def ended(self) -> bool:
        return any(isinstance(i, End) for i in self.all)
