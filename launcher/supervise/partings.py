"""Hosts that are drained and let go: their agents are told to leave, and it is written down once they have."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from launcher.supervise.core.events import Instruction
from launcher.supervise.core.machine import Machine
from launcher.supervise.links import Links
from worker.contract import records, wire

AGAIN_S = 1.0
GIVE_UP_S = 15.0  # an agent that has to go leaves by itself before long; one that is drained, once nobody commands it


class Partings:
    """Everything happens in the loop that calls `tend`."""

    def __init__(
        self,
        links: Links,
        machine: Machine,
        perform: Callable[[list[Instruction]], None],
        note: Callable[..., object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._links, self._machine, self._perform, self._note, self._clock = links, machine, perform, note, clock
        self._since: dict[str, float] = {}
        self._sent: dict[str, float] = {}

    def drain(self, hosts: Sequence[str], by: str, park: bool) -> Mapping[str, str]:
        """Do without these hosts, if nothing speaks against it: what does, and the next step."""
        problem, hint = self._machine.objection(hosts, park=park)
        for host in () if problem else hosts:
            self._perform(self._machine.leaves(host, by))
        return {"problem": problem, "hint": hint}

    def begin(self, host: str) -> None:
        """Say good-bye. From now on the end of its stream is no loss."""
        self._since.setdefault(host, self._clock())

    def tend(self) -> None:
        """Say it again to who has not heard it, or could not leave yet; call it every turn."""
        now = self._clock()
        self._links.leaving = self._machine.doomed
        for host, since in list(self._since.items()):
            if host not in self._links.open_hosts or now - since > GIVE_UP_S:
                del self._since[host]
                self._links.close(host)
                self._note(records.HOST_LEFT, host=host)
            elif now - self._sent.get(host, float("-inf")) >= AGAIN_S:
                self._sent[host] = now
                self._links.part(host)
                self._links.send(host, {"type": wire.LEAVE, "term": self._machine.term})
