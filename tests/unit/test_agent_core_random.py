"""The agent's core under thousands of random events: what must hold in every history, and that every history ends."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.unit.agent_world import TIMEOUTS, World, order
from worker.agent import events
from worker.contract import records, wire


class RandomWorld(World):
    """Has processes: each spawn makes one, which lives until it ends by itself or is sent SIGKILL."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.processes: dict[int, int] = {}  # rank: generation
        self.allowed: set[tuple[int, int]] = set()  # what an accepted START has ordered
        self.term = 0
        self.commander = 1
        self.last_started = 0
        self.connected: set[int] = set()
        self.waiting: list[events.Event] = []
        super().__init__(lease_s=self.random.choice([30.0, 1e6]), starts=False, sweeps=False, publishes=False)

    def _do(self, do: events.Instruction) -> None:
        if isinstance(do, events.Spawn):
            rank, generation = do.order.rank, do.generation
            assert (generation, rank) in self.allowed, "a rank that nobody ordered"
            assert generation > self.last_started or all(g == generation for g in self.processes.values())
            assert rank not in self.processes, "two incarnations of a rank"
            self.processes[rank] = generation
            self.spawned.append((generation, rank))
            self.last_started = generation
            self.later(events.NotStarted(rank, "no", "") if self.random.random() < 0.05 else events.Started(rank, 7, 7))
            return
        if isinstance(do, events.Kill):
            if do.rank in self.processes and (do.signal == "SIGKILL" or self.random.random() < 0.3):
                self.later(events.Exited(do.rank, signal=do.signal))
        elif isinstance(do, events.Sweep):
            assert not self.processes, "a sweep while a rank is alive"
            self.later(events.Swept())
        elif isinstance(do, events.Publish):
            answer = events.Published(do.rank, do.name, 1, "every")
            self.later(answer if self.random.random() < 0.8 else events.NotPublished(do.rank, do.name, "torn"))
        elif isinstance(do, events.Leave):
            assert not self.processes, "it left with a rank alive"
        super()._do(do)

    def later(self, event: events.Event) -> None:
        """Answers come after other things have happened, in order."""
        self.waiting.append(event)

    def toggle(self, client: int) -> None:
        if client in self.connected:
            self.disconnect(client)
        else:
            self.happen(events.Connected(client))
        self.connected ^= {client}

    def deliver(self) -> None:
        while self.waiting:
            event = self.waiting.pop(0)
            if isinstance(event, (events.Exited, events.NotStarted)) and self.processes.pop(event.rank, None) is None:
                continue
            if isinstance(event, events.Started) and event.rank not in self.processes:
                continue
            self.happen(event)
            if self.random.random() < 0.3:
                break

    def any_message(self) -> dict[str, Any]:
        choose = self.random.choice
        term = choose([self.term, self.term, self.term, self.term + 1, max(0, self.term - 1)])
        generation = self.last_started + choose([0, 1, 1, 1, 2])
        kinds: list[dict[str, Any]] = [
            {"type": wire.COMMAND, "term": term},
            {"type": wire.COMMAND, "term": self.term},
            {"type": wire.RENEW, "term": term, "nonce": f"token@{self.now - choose([0, 1, 50])}"},
            {"type": wire.START, "term": term, "generation": generation, "keep": 3, "timeouts": TIMEOUTS,
             "ranks": [order(rank, choose([True, True, False])) for rank in range(choose([1, 2, 3]))]},
            {"type": wire.STOP, "how": choose(["graceful", "now", "failed"]), "reason": "because"},
            {"type": wire.STATUS},
            {"type": wire.LEAVE if self.random.random() < 0.1 else wire.STATUS, "term": term},
        ]  # fmt: skip
        return choose(kinds if self.processes else [*kinds, kinds[3], kinds[3], kinds[3]])

    def act(self) -> None:
        """One random thing."""
        if self.left:
            return
        choose = self.random.choice
        dice = self.random.random()
        if dice < 0.4:
            self.send(choose([1, 2, self.commander, self.commander]), self.any_message())
        elif dice < 0.42:
            self.toggle(choose([1, 2]))
        elif dice < 0.7 and self.processes:
            told: list[dict[str, Any]] = [
                {"type": records.STEP, "step": self.random.randrange(100)},
                {"type": records.EPOCH, "epoch": 1, "loss": float("nan")},
                {"type": records.SAVED, "folder": f"g{self.last_started}-s{self.random.randrange(9)}"},
                {"type": records.FAILURE, "reason": choose(["peer", "data"])},
            ]
            self.tell(choose(list(self.processes)), **choose(told))
        elif dice < 0.8 and self.processes:
            self.later(events.Exited(choose(list(self.processes)), choose([0, 1, 81, 82, 83])))
        elif dice < 0.805:
            self.sleep(choose([5, 500]))
        elif dice < 0.806:
            self.happen(events.Bereft("its warden died"))
        else:
            self.wait(choose([0.25, 1, 5]))
        self.deliver()

    def send(self, client: int, message: dict[str, Any]) -> None:
        if client not in self.connected:
            self.toggle(client)
        seen = len(self.answers(client))
        if message["type"] == wire.START:
            # Allowed for this one message only: whether it is refused is what the assertions at Spawn watch.
            fits = message["term"] == self.term and message["generation"] > self.last_started and not self.processes
            self.allowed = {(message["generation"], o["rank"]) for o in message["ranks"]} if fits else set()
        self.receive(client, **message)
        for answer in self.answers(client)[seen:]:
            if answer["type"] == wire.COMMANDED:
                assert answer["term"] >= self.term, "a lower term commands"
                self.term = answer["term"]
                self.commander = client


@pytest.mark.parametrize("block", range(5))
def test_whatever_happens_the_rules_hold_and_every_history_ends(block: int) -> None:
    started = 0
    for seed in range(block * 100, block * 100 + 100):
        world = RandomWorld(seed)
        world.send(1, {"type": wire.COMMAND, "term": 1})
        for _ in range(120):
            world.act()
        for client in (1, 2):
            world.disconnect(client)
        world.receive(3, type=wire.STOP, how="graceful", reason="the end")
        for _ in range(400):
            world.wait(1)
            world.deliver()
        assert world.left, f"history {seed} does not end: {world.journal[-5:]}"
        assert world.processes == {}
        check_journal(world, seed)
        started += len(world.spawned)
    assert started > 150, "these histories hardly tried anything"


def check_journal(world: World, seed: int) -> None:
    numbers = [e["seq"] for e in world.journal]
    assert numbers == list(range(1, len(numbers) + 1))
    ended = [(e["generation"], e["rank"]) for e in world.wrote(records.RANK_ENDED)]
    assert len(ended) == len(set(ended)), f"history {seed}: a rank ended twice"
    assert set(ended) == set(world.spawned), f"history {seed}: a rank without an end"
    closed = [e["generation"] for e in world.wrote(records.GENERATION_ENDED)]
    assert closed == sorted({generation for generation, _ in world.spawned})
    failed = [e["generation"] for e in world.wrote(records.RANK_ENDED) if e["state"] == "failed"]
    assert len(failed) == len(set(failed)), f"history {seed}: a victim was called a cause"
    assert world.journal[-1]["type"] == records.AGENT_LEFT
