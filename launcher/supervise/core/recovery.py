"""Which hosts a run has to find again before its next generation, and for how long that is tried. Pure."""

from __future__ import annotations

from collections.abc import Collection

FIRST_TRY_S = 2.0
LONGEST_TRY_S = 60.0


class Recovery:
    """Hosts that were lost, since when, and hosts on which ranks of an ended generation are still alive."""

    def __init__(self, connect_s: float, patience_s: float) -> None:
        self._connect_s = connect_s
        self._patience_s = patience_s  # how long a host may be gone before the run is given up
        self._lost: dict[str, tuple[float, str]] = {}
        self._unreachable: set[str] = set()
        self._fresh: set[str] = set()
        self._taken: frozenset[str] = frozenset()
        self._busy: dict[str, int] = {}  # host → the generation whose ranks are alive there
        self._tries = 0

    def lost(self, host: str, why: str, now: float, *, unreachable: bool = False) -> None:
        """The host has no agent of ours, or is `unreachable`."""
        since = self._lost.get(host, (now, ""))[0]
        self._lost[host] = (since, why)
        self._busy.pop(host, None)
        self._fresh.add(host)
        if unreachable:
            self._unreachable.add(host)

    def found(self, host: str, generation: int, *, busy: bool) -> None:
        """An agent has answered; `busy`: ranks of that generation are alive there."""
        self._lost.pop(host, None)
        self._unreachable.discard(host)
        if not self._lost:
            self._tries = 0
        if busy:
            self._busy[host] = generation
        else:
            self._busy.pop(host, None)

    def rests(self, host: str, generation: int) -> None:
        """Nothing of a generation is alive there any more. An earlier one's end, told again, says nothing."""
        if generation >= self._busy.get(host, 0):
            self._busy.pop(host, None)

    def is_busy(self, host: str) -> bool:
        return host in self._busy

    def is_unreachable(self, host: str) -> bool:
        """Whether it could not be reached when it was lost, or since."""
        return host in self._unreachable

    def why_lost(self, host: str) -> str:
        """Empty if it is not."""
        return self._lost[host][1] if host in self._lost else ""

    def take_fresh(self, hosts: Collection[str]) -> frozenset[str]:
        """Of these hosts, those that were lost since they were asked for last."""
        self._taken = frozenset(self._fresh & set(hosts))
        self._fresh -= self._taken
        return self._taken

    def give_back_fresh(self) -> None:
        """What was to be done for the hosts that were asked for last was not done, or not for all."""
        self._fresh |= self._taken

    def try_for_s(self) -> float:
        """How long to wait for the hosts that are reached now, before they are tried again: longer each time."""
        self._tries += 1
        return min(max(FIRST_TRY_S * 2.0 ** min(self._tries - 1, 10), self._connect_s), LONGEST_TRY_S)

    def given_up(self, now: float) -> set[str]:
        """The hosts that have been gone for longer than anybody is waited for."""
        return {host for host, (since, _) in self._lost.items() if now - since > self._patience_s}

    @property
    def longest_gone(self) -> str:
        """The host that was lost first of those that are missing; empty if none is."""
        return min(self._lost, key=lambda host: self._lost[host][0], default="")

    def told(self, now: float) -> str:
        """Who is missing, since when and why."""
        return "; ".join(
            f"{host} has been gone for {now - since:.0f} s: {why}" for host, (since, why) in sorted(self._lost.items())
        )
