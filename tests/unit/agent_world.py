"""For tests: the agent's core in a world without processes, which does what the core says and keeps count of it."""

from __future__ import annotations

from typing import Any

from worker.agent import events
from worker.agent.core import Core
from worker.agent.who import Identity, Past
from worker.contract import records, wire
from worker.contract.records import Record

TIMEOUTS = {"stop_s": 3.0, "checkpoint_s": 30.0, "start_s": 100.0, "stall_s": 100.0}


def order(rank: int, message: bool = True) -> dict[str, Any]:
    return {
        "rank": rank,
        "argv": ["python", "train.py"],
        "cwd": "/",
        "env": {},
        "secrets": {},
        "stop": "message" if message else "SIGTERM",
        "chief": rank == 0,
    }


class World:
    """Processes start, output moves and sweeps succeed at once, unless a test says that it tells of them itself."""

    def __init__(
        self,
        lease_s: float = 1000.0,
        past_term: int = 0,
        past_generation: int = 0,
        past_seq: int = 0,
        unended: dict[int, list[int]] | None = None,
        starts: bool = True,
        sweeps: bool = True,
        publishes: bool = True,
    ) -> None:
        self.now = 5000.0
        self.starts, self.sweeps, self.publishes = starts, sweeps, publishes
        self.journal: list[Record] = []
        self.sent: dict[int, list[wire.Message]] = {}
        self.spawned: list[tuple[int, int]] = []
        self.forks: list[int] = []  # ranks that may come off a zygote
        self.asked: list[int] = []
        self.told_of_loss: list[int] = []
        self.signals: list[tuple[int, str]] = []
        self.looked: list[int] = []  # ranks that were to show their stacks
        self.stand: dict[int, events.Stands] | None = {}  # what is found there; None: nothing comes of it
        self.published: list[str] = []
        self.swept = 0
        self.left = False
        identity = Identity("here", "a-run", 42, "boot", "code", "token")
        past = Past(past_term, past_generation, past_seq, unended or {})
        self.core = Core(identity, past, lease_s, self.now)
        self.do(self.core.tick(self.now))

    # What happens.

    def happen(self, event: events.Event) -> None:
        self.do(self.core.on(event, self.now))

    def wait(self, seconds: float) -> None:
        """Let awake time pass."""
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.now = min(self.now + 0.25, until)
            self.do(self.core.tick(self.now))

    def sleep(self, seconds: float) -> None:
        """Suspend the machine."""
        self.now += seconds
        self.do(self.core.tick(self.now))

    def connect(self, client: int) -> wire.Message:
        self.happen(events.Connected(client))
        return self.answers(client)[-1]

    def disconnect(self, client: int) -> None:
        self.happen(events.Disconnected(client))

    def receive(self, client: int, **message: Any) -> None:
        self.happen(events.Received(client, message))

    def commanded(self, client: int, term: int = 1) -> World:
        self.connect(client)
        self.receive(client, type=wire.COMMAND, term=term)
        return self

    def start(
        self, client: int, generation: int = 1, term: int = 1, ranks: list[dict[str, Any]] | None = None, **times: float
    ) -> None:
        self.receive(client, type=wire.START, term=term, generation=generation, keep=3,
                     ranks=ranks or [order(0)], timeouts={**TIMEOUTS, **times})  # fmt: skip

    def started(self, *ranks: int, message: bool = True, **times: float) -> World:
        self.start(1, 1, 1, [order(rank, message) for rank in ranks], **times)
        return self

    def tell(self, rank: int, **record: Any) -> None:
        self.happen(events.Told(rank, record))

    def step(self, rank: int, step: int) -> None:
        self.tell(rank, type=records.STEP, step=step, epoch=1, loss=0.5)

    def exit(self, rank: int, code: int | None = None, signal: str | None = None) -> None:
        self.happen(events.Exited(rank, code, signal))

    # What is seen of it.

    def answers(self, client: int) -> list[wire.Message]:
        return self.sent.get(client, [])

    def nonce(self, client: int) -> str:
        return str([m["nonce"] for m in self.answers(client) if "nonce" in m][-1])

    def hello(self, client: int) -> wire.Message:
        self.receive(client, type=wire.STATUS)
        return self.answers(client)[-1]

    def wrote(self, type_: str) -> list[Record]:
        return [e for e in self.journal if e["type"] == type_]

    def states(self) -> dict[int, str]:
        return {e["rank"]: e["state"] for e in self.wrote(records.RANK_ENDED)}

    # What the core says.

    def do(self, instructions: list[events.Instruction]) -> None:
        for instruction in instructions:
            self._do(instruction)

    def _do(self, do: events.Instruction) -> None:
        if isinstance(do, events.Write):
            assert do.record["seq"] == (self.journal[-1]["seq"] + 1 if self.journal else do.record["seq"])
            self.journal.append(do.record)
        elif isinstance(do, events.Send):
            self.sent.setdefault(do.client, []).append(do.message)
        elif isinstance(do, events.Spawn):
            self.spawned.append((do.generation, do.order.rank))
            self.forks += [do.order.rank] if do.zygote else []
            if self.starts:
                self.happen(events.Started(do.order.rank, 100 + len(self.spawned), 1))
        elif isinstance(do, events.Ask):
            self.asked.append(do.rank)
        elif isinstance(do, events.TellOfLoss):
            self.told_of_loss.append(do.rank)
        elif isinstance(do, events.Kill):
            self.signals.append((do.rank, do.signal))
        elif isinstance(do, events.Look):
            self.looked.append(do.rank)
            if self.stand is not None:
                self.happen(self.stand.get(do.rank, events.Stands(do.rank)))
        else:
            self._do_with_files(do)

    def _do_with_files(self, do: events.Instruction) -> None:
        if isinstance(do, events.Publish):
            self.published.append(do.name)
            if self.publishes:
                self.happen(events.Published(do.rank, do.name, do.epoch, do.why))
        elif isinstance(do, events.MoveOutput):
            self.happen(events.OutputMoved(do.rank))
        elif isinstance(do, events.Sweep):
            self.swept += 1
            if self.sweeps:
                self.happen(events.Swept())
        elif isinstance(do, events.Leave):
            self.left = True
