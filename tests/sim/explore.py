"""Every history of two hosts with one rank each in which so many faults happen at the places of a grid."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher.spec.model import RestartSpec
from tests.sim import faults
from tests.sim.checks import BrokenError
from tests.sim.history import Nemesis, finish
from tests.sim.lab import Lab, Settings

# Reaching, commanding, starting, joining, training, a checkpoint being published.
WHEN = (0.0, 0.04, 0.1, 0.3, 0.64, 0.66, 0.7, 1.5, 3.0, 6.0, 12.1, 14.0)
THEN = (0.0, 0.3, 2.0, 11.0)  # after the fault before
LASTS = (0.7, 14.0)  # shorter and longer than a silence that counts
WORKERS = {"a": 1, "b": 1}


@dataclass(frozen=True)
class Choice:
    """A fault so many seconds after the one before it, and how long it lasts."""

    after: float
    name: str
    lasts: float


def kinds() -> dict[str, faults.Fault]:
    return {**faults.of_hosts(list(WORKERS)), "down": faults.ask_to_stop, "down --now": faults.ask_to_stop_now}


def choices(when: tuple[float, ...], lasts: tuple[float, ...]) -> Iterator[Choice]:
    yield from (Choice(*one) for one in itertools.product(when, kinds(), lasts))


def histories(depth: int) -> Iterator[tuple[Choice, ...]]:
    """Of depth 1 on the whole grid, of depth 2 on a coarser one."""
    if depth == 1:
        yield from ((one,) for one in choices(WHEN, LASTS))
        return
    for first in choices(WHEN[4::3], LASTS[1:]):
        yield from ((first, second) for second in choices(THEN[:3], LASTS[1:]))


def looks_like(lab: Lab) -> tuple[Any, ...]:
    """What a fault may change of a world at once."""
    hosts = [
        (
            host.up,
            host.frozen,
            host.boot,
            host.disk.full,
            host.agent and (id(host.agent), host.agent.frozen),
            *((rank.number, rank.frozen) for rank in host.processes.values()),
        )
        for host in lab.hosts.values()
    ]
    who = lab.coordinator
    cuts = [lab.net.carries(*way) for way in itertools.permutations(["home", *lab.hosts], 2)]
    links = [relay.over for host in lab.hosts.values() for relay in host.relays]
    return (*hosts, *cuts, *links, who.frozen, who.dead, who.machine.stopping, who.machine.ended)


class Explorer:
    """Goes through histories; `tried` and `ends` count. A fault that changes nothing ends no new history."""

    def __init__(self) -> None:
        self.tried = 0
        self.ends: Counter[str] = Counter()
        self._vain: set[tuple[Choice, ...]] = set()

    def explore(self, depth: int) -> None:
        """Raises BrokenError, with the history, at the first in which a rule is broken."""
        for history in histories(depth):
            if any(history[: i + 1] in self._vain for i in range(len(history))):
                continue
            self.tried += 1
            lab = start()
            try:
                self.ends[self._live(lab, history)] += 1
            except BrokenError as error:
                raise BrokenError("\n".join([*lab.world.lines, f"{error}", *map(str, history)])) from error

    def _live(self, lab: Lab, history: tuple[Choice, ...]) -> str:
        nemesis, known = Nemesis(lab), kinds()
        for i, choice in enumerate(history):
            lab.world.run(choice.after)
            before = looks_like(lab)
            nemesis.do(choice.name, known[choice.name], choice.lasts)
            if looks_like(lab) == before and "streams" not in choice.name:
                self._vain.add(history[: i + 1])
                return "nothing changed"
        lab.world.run(15.0)
        nemesis.make_peace()
        return finish(lab)


def start() -> Lab:
    return Lab("explore", Settings(WORKERS, total=12, restart=RestartSpec(max=6, per=600.0)))
