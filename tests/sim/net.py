"""Streams between the coordinators' place and the hosts: in order, late, cut with their tail lost, one way or both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from tests.sim.clock import World

HOME = "home"
Message = dict[str, Any]


class Net:
    """Who can send to whom. What is on its way over a cut path waits, as TCP does, until that is mended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._cut: set[tuple[str, str]] = set()
        self._waiting: dict[Pipe, None] = {}

    def passes(self, one: str, other: str) -> bool:
        """Whether both ways are open."""
        return one == other or not ({(one, other), (other, one)} & self._cut)

    def carries(self, src: str, dst: str) -> bool:
        return (src, dst) not in self._cut

    def cut(self, src: str, dst: str) -> None:
        self._cut.add((src, dst))

    def restore(self, src: str, dst: str) -> None:
        self._cut.discard((src, dst))
        self.move()

    def mend(self) -> None:
        self._cut.clear()
        self.move()

    def wait(self, pipe: Pipe) -> None:
        self._waiting[pipe] = None

    def move(self) -> None:
        """Something has changed: whoever waited may go on."""
        waiting, self._waiting = self._waiting, {}
        for pipe in waiting:
            self.world.after(self.world.between(0.0, 0.2), pipe.pump)


class Pipe:
    """One direction of a stream. `take` is given each message, and None at its end; `ready` says if it can be."""

    def __init__(
        self, net: Net, src: str, dst: str, take: Callable[[Message | None], None], ready: Callable[[], bool]
    ) -> None:
        self._net, self._src, self._dst = net, src, dst
        self._take, self._ready = take, ready
        self._queue: deque[tuple[float, Message | None]] = deque()
        self._last = 0.0
        self._ended = False

    def send(self, message: Message | None) -> None:
        if self._ended:
            return
        self._ended = message is None
        world = self._net.world
        delay = 0.01 if world.random.random() < 0.95 else world.between(0.01, 1.5)
        self._last = max(self._last, world.awake + delay)
        self._queue.append((self._last, message))
        world.after(self._last - world.awake, self.pump)

    def lose_tail(self) -> None:
        """Of what is on its way only a part arrives, and then the end."""
        while self._queue and self._net.world.chance(0.5):
            self._queue.pop()
        self._ended = False
        self.send(None)

    def vanish(self) -> None:
        """Nothing more arrives, not even an end."""
        self._queue.clear()
        self._ended = True

    def pump(self) -> None:
        while self._queue and self._queue[0][0] <= self._net.world.awake + 1e-9:
            if not self._ready() or not self._net.carries(self._src, self._dst):
                self._net.wait(self)
                return
            self._take(self._queue.popleft()[1])
