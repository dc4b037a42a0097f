"""A machine: its disk, its processes, its agent; it can be cut off, frozen, killed, and come back."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from launcher.hosts.base import Host, RunOnHost, Stream
from tests.sim.agent import Agent
from tests.sim.net import HOME, Message, Pipe
from tests.sim.ranks import Rank
from worker.agent.journal import _follow, _whole
from worker.agent.orders import RankOrder
from worker.agent.who import Past
from worker.contract import wire
from worker.contract.records import Record

if TYPE_CHECKING:
    from tests.sim.coordinator import SimCoordinator
    from tests.sim.lab import Lab

RELAY_WAITS_S = 20.0


class Disk:
    """What outlives processes. A power loss takes what was not synced."""

    def __init__(self) -> None:
        self.full = False
        self.records: list[Record] = []
        self.synced = 0
        self.own: dict[tuple[int, str], int] = {}  # (rank, name) → step: saved, and not published yet
        self.published: dict[str, int] = {}

    def past(self) -> Past:
        """As the agent's journal finds it when it is opened."""
        term = generation = seq = 0
        unended: dict[int, set[int]] = {}
        for record in self.records:
            seq = max(seq, _whole(record.get("seq")))
            term = max(term, _whole(record.get("term")))
            generation = max(generation, _whole(record.get("generation")))
            _follow(unended, record)
        return Past(term, generation, seq, {number: sorted(ranks) for number, ranks in unended.items()})


class SimHost:
    """Everything on one machine."""

    def __init__(self, lab: Lab, name: str, remote: bool) -> None:
        self.lab, self.world, self.net, self.name, self.remote = lab, lab.world, lab.net, name, remote
        self.disk = Disk()
        self.up, self.frozen, self.doomed = True, False, False
        self.boot = 1
        self.agent: Agent | None = None
        self.processes: dict[int, Rank] = {}
        self.relays: list[Relay] = []
        self._tokens = itertools.count(1)

    def ready(self) -> bool:
        return self.up and not self.frozen

    def start_agent(self) -> None:
        self.agent = Agent(self, next(self._tokens))

    def spawn(self, generation: int, order: RankOrder) -> None:
        cluster = self.lab.cluster(generation)
        saves = order.chief or self.name != self.lab.home.plans[generation].ranks[0].host
        self.processes[order.rank] = Rank(self, order.rank, cluster, saves)

    def buried(self, rank: Rank) -> None:
        if self.processes.get(rank.number) is rank:
            del self.processes[rank.number]

    def agent_left(self) -> None:
        """It has gone, in whatever way: its warden ends what is left below it."""
        self.agent = None
        for relay in self.relays:
            relay.agent_left()
        for rank in list(self.processes.values()):
            self.world.after(self.world.between(0.01, 0.1), lambda rank=rank: rank.die("SIGKILL"))  # type: ignore[misc]

    def kill_agent(self) -> None:
        if self.agent is not None:
            self.agent.die()
            self.agent_left()

    def crash(self, power: bool) -> None:
        """Down; with `power`, what was not synced is lost."""
        self.up = False
        self.boot += 1
        if self.agent is not None:
            self.agent.die()
            self.agent = None
        for rank in list(self.processes.values()):
            rank.die("SIGKILL")
        if power:
            del self.disk.records[self.disk.synced :]
        told = self.world.chance(0.5)  # whether its kernel still closes connections
        for relay in self.relays:
            relay.crashed(told)
        self.relays = []

    def come_back(self) -> None:
        if self.doomed:
            return
        self.up, self.frozen = True, False
        self.net.move()

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        if self.agent is not None:
            self.agent.thaw()
        for rank in list(self.processes.values()):
            rank.thawed()
        self.net.move()


class Relay:
    """The host's end of a stream: it finds or starts the agent, then moves messages."""

    def __init__(self, host: SimHost, stream: SimStream) -> None:
        self.host, self.world = host, host.world
        self.up = Pipe(host.net, HOME, host.name, self._take, host.ready)
        self.down = Pipe(host.net, host.name, HOME, stream.arrived, stream.ready)
        self._agent: Agent | None = None
        self._client = 0
        self._early: list[Message | None] = []
        self.over = False
        host.relays.append(self)

    def _take(self, message: Message | None) -> None:
        if self.over:
            return
        if message is not None and message["type"] == wire.REACH:
            self._reach(bool(message["start"]), self.world.awake + RELAY_WAITS_S)
        elif self._agent is None:
            self._early.append(message)
        elif message is None:
            self.over = True
            self._agent.hang_up(self._client)
        else:
            self._agent.hear(self._client, message)

    def _reach(self, start: bool, deadline: float) -> None:
        host = self.host
        if self.over or not host.up or None in self._early:
            return
        if host.ready():
            agent = host.agent
            if agent is not None and agent.moves:
                self._connect(agent)
                return
            if agent is None and not host.processes:  # the name is held until the last process is gone
                if not start:
                    self._absent("no agent of this run is alive here")
                    return
                host.start_agent()
            elif self.world.awake > deadline:
                self._absent("the agent does not answer")
                return
        self.world.after(0.1, lambda: self._reach(start, deadline))

    def _absent(self, why: str) -> None:
        self.down.send({"type": wire.ABSENT, "why": why})
        self.down.send(None)
        self.over = True

    def _connect(self, agent: Agent) -> None:
        self._agent = agent
        self._client = agent.connect(self.down.send)
        early, self._early = self._early, []
        for message in early:
            self._take(message)

    def agent_left(self) -> None:
        if self._agent is not None and not self.over:
            self.over = True
            self.down.send(None)

    def broken(self) -> None:
        """The connection dies on its way; each end learns it, in its own time."""
        self.down.lose_tail()
        self.up.lose_tail()

    def crashed(self, told: bool) -> None:
        self.over = True
        self.up.vanish()
        if told:
            self.down.lose_tail()
        else:
            self.down.vanish()


class SimStream(Stream):
    """The coordinator's end."""

    def __init__(self, coordinator: SimCoordinator, host: SimHost) -> None:
        super().__init__()
        self._coordinator = coordinator
        self._inbox: list[Message] = []
        self._open, self._closed = True, False
        self.relay = Relay(host, self)

    def ready(self) -> bool:
        return not self._coordinator.frozen

    def arrived(self, message: Message | None) -> None:
        if self._closed:
            return
        if message is None:
            self._open = False
        else:
            self._inbox.append(message)
        self._coordinator.readable(self)

    def send(self, message: Any) -> None:
        self.relay.up.send(dict(message))

    def receive(self) -> tuple[list[Message], bool]:
        messages, self._inbox = self._inbox, []
        return messages, self._open

    def close(self) -> None:
        self._closed = True
        self.relay.up.send(None)

    def complaint(self) -> str:
        return ""

    @property
    def wants_write(self) -> bool:
        return False

    def fileno(self) -> int:
        return -1

    def _read(self) -> bytes | None:
        raise NotImplementedError

    def _write(self, data: bytes) -> int:
        raise NotImplementedError


class Reached(Host):
    """A host as a coordinator's links see it."""

    def __init__(self, coordinator: SimCoordinator, host: SimHost) -> None:
        self.name, self.remote = host.name, host.remote
        self._coordinator, self._host = coordinator, host

    def _open(self, target: RunOnHost) -> Stream:  # noqa: ARG002 - there is one run
        stream = SimStream(self._coordinator, self._host)
        if not self._host.up:
            stream.relay.crashed(told=False)
            if self._host.world.chance(0.5):  # refused; else nothing answers
                self._host.world.after(0.5, lambda: stream.arrived(None))
        return stream
