"""Which hosts are at work in a generation, of those that the spec names. Pure.

The last `restart.spares` hosts of the spec are held in reserve; all others are at work at first: so many *places* there
are for the life of the run. `choose` fills them anew for the next generation, out of the hosts that can be used then:
those that were at work stay, free places go to others in the spec's order, once lost ones among them if `restart.grow`
takes them back. With `restart.min_workers` some places may stay empty; without it `choose` answers None until there is
a host for each. Ranks are numbered in the spec's order whoever is chosen, so the chief is on the first of them.

For a host that is to go (`launcher drain`) `leaves` takes it out for good. How a generation is ended for its sake, and
whether another one follows, is told in `departures` and `succession`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from launcher.spec.model import RestartSpec


class Roster:
    """Who is at work now, and who could be. `workers` names all hosts in the spec's order, with their workers each."""

    def __init__(self, rules: RestartSpec, workers: Mapping[str, int], at_work: Collection[str]) -> None:
        self._rules = rules
        self._workers = dict(workers)
        self.places = max(1, len(workers) - rules.spares)
        self.at_work = self._in_order(at_work)
        first = list(workers)[: self.places]
        # A generation was begun without them, after one with them.
        self._dropped = set(first) - set(at_work)
        self._left: set[str] = set()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, in the spec's order."""
        return tuple(self._workers)

    @property
    def reserve(self) -> tuple[str, ...]:
        """The hosts that are not at work, and that may be taken before anybody else is missing."""
        away = self._left | (self._dropped if self._rules.grow == "never" else set())
        return tuple(host for host in self._workers if host not in self.at_work and host not in away)

    @property
    def left(self) -> frozenset[str]:
        """The hosts that are not used any more, whatever happens."""
        return frozenset(self._left)

    @property
    def may_be_smaller(self) -> bool:
        """Whether a generation may be begun without a host of the last one: a host may take its place, or none."""
        return self._rules.min_workers is not None or self._rules.spares > 0 or bool(self._left)

    def leaves(self, host: str) -> None:
        """The host is never chosen again."""
        if host in self._workers:
            self._left.add(host)

    def begins(self, at_work: Collection[str]) -> None:
        """A generation is begun with these hosts."""
        self._dropped = (self._dropped | set(self.at_work)) - set(at_work)
        self.at_work = self._in_order(at_work)

    def choose(self, usable: Collection[str], aside: Collection[str] = ()) -> tuple[str, ...] | None:
        """The hosts of the next generation, in the spec's order. None: with these it may not be begun.

        `aside` are those of the `usable` that are used only if there is no other way.
        """
        there = [host for host in self._workers if host in usable and host not in self._left]
        wanted = [host for host in there if self._rules.grow != "never" or host not in self._dropped]
        for pool in ([host for host in wanted if host not in aside], wanted, there):
            staying = sorted(pool, key=lambda host: host not in self.at_work)
            largest = sorted(pool, key=lambda host: -self._workers[host])
            for chosen in (staying[: self.places], largest[: self.places]):
                if self._enough(chosen):
                    return self._in_order(chosen)
        return None

    def could_grow(self, usable: Collection[str], aside: Collection[str] = ()) -> bool:
        """Whether the next generation would have all hosts of this one, and more."""
        chosen = self.choose(usable, aside)
        return chosen is not None and set(chosen) > set(self.at_work)

    def _enough(self, chosen: Collection[str]) -> bool:
        if self._rules.min_workers is None:
            return len(chosen) >= self.places
        return sum(self._workers[host] for host in chosen) >= self._rules.min_workers and bool(chosen)

    def _in_order(self, hosts: Collection[str]) -> tuple[str, ...]:
        return tuple(host for host in self._workers if host in hosts)
