"""The real core of an agent in a thin body: journal, clients, processes, publishing, a loop that turns when woken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.sim.net import Message
from worker.agent import events
from worker.agent.core import Core
from worker.agent.who import Identity
from worker.contract import records, wire
from worker.contract.records import Record

if TYPE_CHECKING:
    from tests.sim.host import SimHost

_DURABLE = frozenset(
    {
        records.COMMANDED_BY,
        records.RANK_STARTED,
        records.RANK_RESULT,
        records.CHECKPOINT,
        records.RANK_ENDED,
        records.GENERATION_ENDED,
        records.HOST_GOING,
        records.LEASE_ENDED,
        records.AGENT_LEFT,
    }
)


class Agent:
    """As `worker.agent.shell`: time first, then what happened, then the journal, then what follows it."""

    def __init__(self, host: SimHost, number: int) -> None:
        self.host, self.world = host, host.world
        self.alive, self.frozen = True, False
        self.thawed_at = float("-inf")
        self._clients: dict[int, Callable[[Message | None], None]] = {}
        self._happened: deque[events.Event] = deque()
        self._last_client = 0
        self._waiting: list[Record] = []  # lines for which the disk had no room
        self._dirty = False
        self._disk_was_full = False
        self._followed: int | None = None
        self._since = 0
        self._fresh: list[Record] = []
        self._turns = 0
        self.term_heard = max((r.get("term", 0) for r in host.disk.records), default=0)
        self._turning = False
        self.start_term = 0  # of the newest start that was read
        self.lease_until = self.world.now + host.lab.settings.lease_s  # by the nonces that came back
        identity = Identity(host.name, "run", 40 + number, f"boot{host.boot}", "code", f"{host.name}{number}")
        self.core = Core(identity, host.disk.past(), host.lab.settings.lease_s, self.world.now)
        self._turn()

    @property
    def moves(self) -> bool:
        return self.alive and not self.frozen and self.host.ready()

    # What reaches it.

    def connect(self, send: Callable[[Message | None], None]) -> int:
        self._last_client += 1
        self._clients[self._last_client] = send
        self.happen(events.Connected(self._last_client))
        return self._last_client

    def hear(self, client: int, message: Message) -> None:
        self.happen(events.Received(client, message))

    def hang_up(self, client: int) -> None:
        self.happen(events.Disconnected(client))

    def happen(self, event: events.Event) -> None:
        self._happened.append(event)
        if self.moves and not self._turning:
            self._turn()

    def thaw(self) -> None:
        self.frozen = False
        self.thawed_at = self.world.awake
        if self.moves:
            self._turn()

    def die(self) -> None:
        """SIGKILL: what the disk had no room for is lost."""
        self.alive = False

    # Its loop.

    def _turn(self) -> None:
        self._turning = True
        self._carry_out(self.core.tick(self.world.now))
        self.host.lab.checks.leased(self)
        while self._happened and self.alive:
            event = self._happened.popleft()
            if isinstance(event, events.Disconnected):
                self._clients.pop(event.client, None)
                self._followed = None if self._followed == event.client else self._followed
            if isinstance(event, events.Received) and event.message["type"] == wire.START:
                self.start_term = event.message["term"]
            elif isinstance(event, events.Received) and event.message["type"] == wire.RENEW:
                sent_at = float(str(event.message["nonce"]).rpartition("@")[2])
                self.lease_until = max(self.lease_until, sent_at + self.host.lab.settings.lease_s)
            self._carry_out(self.core.on(event, self.world.now))
        self._sync()
        self._turning = False
        if not self.alive:
            return
        self._turns += 1
        turn = self._turns
        self.world.after(max(self.core.wait(), 0.01), lambda: self._wake(turn))

    def _wake(self, turn: int) -> None:
        if turn == self._turns and self.moves:
            self._turn()

    def _sync(self) -> None:
        disk = self.host.disk
        if self._waiting and not disk.full:
            disk.records += self._waiting
            self._waiting.clear()
        if self._dirty and not self._waiting:
            disk.synced = len(disk.records)
            self._dirty = False
        if self._waiting and not self._disk_was_full:
            self._happened.append(events.DiskFull("no space left: the agent's journal"))
        if self._disk_was_full and not self._waiting:
            self._happened.append(events.DiskRoom())
        self._disk_was_full = bool(self._waiting)
        follow = self._clients.get(self._followed or 0)
        fresh, self._fresh = self._fresh, []
        for record in fresh if follow else ():
            assert follow is not None
            follow({"type": "event", "event": record})

    def _carry_out(self, instructions: list[events.Instruction]) -> None:
        for do in sorted(instructions, key=lambda i: not isinstance(i, (events.Kill, events.Ask))):
            self._HOW[type(do)](self, do)

    def _send(self, do: events.Send) -> None:
        client = self._clients.get(do.client)
        if do.message["type"] == "commanded":
            self.host.lab.checks.commanded(self.host.name, do.message["term"], self.term_heard)
            self.term_heard = max(self.term_heard, do.message["term"])
        if client is not None:
            client(do.message)

    def _follow(self, do: events.Follow) -> None:
        self._followed, self._since = do.client, do.since
        self._fresh = [r for r in [*self.host.disk.records, *self._waiting] if r["seq"] > do.since]

    def _write(self, do: events.Write) -> None:
        record = {"t": self.world.now, **do.record}
        self.world.tell(f"{self.host.name} writes {show(record)}")
        self._dirty |= record["type"] in _DURABLE
        self._waiting.append(record)
        if not self.host.disk.full:
            self.host.disk.records += self._waiting
            self._waiting.clear()
        if self._followed is not None and record["seq"] > self._since:
            self._fresh.append(record)

    def _spawn(self, do: events.Spawn) -> None:
        self.host.lab.checks.spawned(self.host, do.generation, do.order.rank)
        self.host.spawn(do.generation, do.order)

    def _ask(self, do: events.Ask) -> None:
        if do.rank in self.host.processes:
            self.host.processes[do.rank].ask()

    def _tell_of_loss(self, _: events.TellOfLoss) -> None:
        """What it hastens here, the simulated collectives do of themselves."""

    def _kill(self, do: events.Kill) -> None:
        if do.rank in self.host.processes:
            self.host.processes[do.rank].signal(do.signal)

    def _sweep(self, _: events.Sweep) -> None:
        self._later(0.02, lambda: self.happen(events.Swept()))

    def _look(self, do: events.Look) -> None:
        def look() -> None:
            rank = self.host.processes.get(do.rank)
            if rank is not None:
                waits = rank.joined and not rank.leaving
                self.happen(events.Stands(do.rank, "T" if rank.frozen else "S", None if rank.frozen else waits))

        self._later(1.0, look)

    def _publish(self, do: events.Publish) -> None:
        def publish() -> None:
            disk = self.host.disk
            if do.name in disk.published:
                self.happen(events.NotPublished(do.rank, do.name, ""))
                return
            step = disk.own.pop((do.rank, do.name))
            disk.published[do.name] = step
            self.host.lab.checks.published(self.host.name, do.generation, step)
            names = sorted(disk.published, key=lambda name: (int(name[1:].split("-s")[0]), disk.published[name]))
            pruned = names[: -do.keep] if do.keep else []
            for name in pruned:
                del disk.published[name]
            arrays = f"of-{self.host.lab.lineage_of(self.host.name, do.generation, step)}"
            self.happen(events.Published(do.rank, do.name, do.epoch, do.why, tuple(pruned), arrays))

        self._later(self.world.between(0.05, 0.6), publish)

    def _move_output(self, do: events.MoveOutput) -> None:
        self._happened.append(events.OutputMoved(do.rank))

    def _leave(self, _: events.Leave) -> None:
        self._sync()
        self.alive = False
        self.host.agent_left()

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        def go() -> None:
            if self.moves:
                do()
            elif self.alive:
                self.world.after(1.0, go)

        self.world.after(seconds, go)

    _HOW: dict[type, Callable[[Agent, Any], None]] = {  # noqa: RUF012
        events.Send: _send,
        events.Follow: _follow,
        events.Write: _write,
        events.Spawn: _spawn,
        events.Ask: _ask,
        events.TellOfLoss: _tell_of_loss,
        events.Kill: _kill,
        events.Sweep: _sweep,
        events.Look: _look,
        events.Publish: _publish,
        events.MoveOutput: _move_output,
        events.Leave: _leave,
    }


def show(record: Record) -> str:
    """A record as a person reads it."""
    fields = " ".join(f"{key}={value}" for key, value in record.items() if key not in ("t", "type", "seq"))
    return f"{record.get('seq', '')} {record['type']} {fields[:160]}"
