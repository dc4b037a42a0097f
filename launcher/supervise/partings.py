"""Hosts that are let go: their agents are told to leave, and it is written down once they have."""

from __future__ import annotations

from collections.abc import Callable

from launcher.supervise.links import Links
from worker.contract import records, wire

AGAIN_S = 1.0
GIVE_UP_S = 15.0  # an agent that has to go leaves by itself before long; one that is drained, once nobody commands it


class Partings:
    """Everything happens in the loop that calls `tend`."""

    def __init__(self, links: Links, note: Callable[..., None], clock: Callable[[], float]) -> None:
        self._links = links
        self._note = note
        self._clock = clock
        self._since: dict[str, float] = {}
        self._sent: dict[str, float] = {}

    def begin(self, host: str) -> None:
        """Say good-bye. From now on the end of its stream is no loss."""
        self._since.setdefault(host, self._clock())

    def tend(self, term: int) -> None:
        """Say it again to who has not heard it, or could not leave yet; call it every turn."""
        now = self._clock()
        for host, since in list(self._since.items()):
            if host not in self._links.open_hosts or now - since > GIVE_UP_S:
                del self._since[host]
                self._links.close(host)
                self._note(records.HOST_LEFT, host=host)
            elif now - self._sent.get(host, float("-inf")) >= AGAIN_S:
                self._sent[host] = now
                self._links.part(host)
                self._links.send(host, {"type": wire.LEAVE, "term": term})
