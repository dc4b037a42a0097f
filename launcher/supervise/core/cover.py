"""Which hosts to leave out so that the others reach each other: the fewest that cover every failed pair. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Pair = tuple[str, str]


def smallest_cover(failed: Iterable[Pair], hosts: Sequence[str]) -> tuple[str, ...]:
    """The smallest set of hosts of which each failed pair has at least one, in the order of `hosts`.

    Exact. Of several such sets, that which leaves the earlier hosts of `hosts` in: compared from the last one on, a set
    with the later host is taken. So of two hosts that do not reach each other the later one goes, and the chief stays.
    A pair of a host with itself takes that host. Pairs of hosts that are not in `hosts` are passed over.
    """
    place = {host: number for number, host in enumerate(hosts)}
    peers: dict[int, set[int]] = {}
    alone: set[int] = set()
    for one, other in failed:
        if one not in place or other not in place:
            continue
        if one == other:
            alone.add(place[one])
        else:
            peers.setdefault(place[one], set()).add(place[other])
            peers.setdefault(place[other], set()).add(place[one])
    found = alone | _cover(_without(peers, alone))
    return tuple(hosts[number] for number in sorted(found))


def _cover(peers: Mapping[int, set[int]]) -> set[int]:
    """Each part of the graph by itself: a cut through one switch is not to be searched together with another's."""
    found: set[int] = set()
    for part in _parts(peers):
        size = _least(part)
        found |= _last(part, size)
    return found


def _last(peers: Mapping[int, set[int]], size: int) -> set[int]:
    """Of all covers of this size, the one that has the later vertices."""
    found: set[int] = set()
    for vertex in sorted(peers, reverse=True):
        left = _without(peers, found)
        if vertex not in left:
            continue
        if _least(_without(left, {vertex})) == size - len(found) - 1:
            found.add(vertex)
    return found


def _least(peers: Mapping[int, set[int]]) -> int:
    """How many vertices a smallest cover has, by branching on the vertex with the most peers: it is in the cover, or
    all of them are. Where none has more than two, what is left are paths and circles."""
    total = 0
    for part in _parts(peers):
        total += _least_of_part(part)
    return total


def _least_of_part(peers: Mapping[int, set[int]]) -> int:
    leaf = next((vertex for vertex, to in peers.items() if len(to) == 1), None)
    if leaf is not None:  # its only peer covers as much, and perhaps more
        return 1 + _least(_without(peers, peers[leaf]))
    most = max(peers, key=lambda vertex: (len(peers[vertex]), vertex))
    if len(peers[most]) == 2:  # a circle
        return (len(peers) + 1) // 2
    if all(len(to) == len(peers) - 1 for to in peers.values()):  # each with each
        return len(peers) - 1
    with_it = 1 + _least(_without(peers, {most}))
    if with_it <= len(peers[most]):  # to leave it out would take at least all of its peers
        return with_it
    return min(with_it, len(peers[most]) + _least(_without(peers, peers[most])))


def _without(peers: Mapping[int, set[int]], gone: set[int]) -> dict[int, set[int]]:
    left = {vertex: to - gone for vertex, to in peers.items() if vertex not in gone}
    return {vertex: to for vertex, to in left.items() if to}


def _parts(peers: Mapping[int, set[int]]) -> list[dict[int, set[int]]]:
    """The connected parts."""
    found, seen = [], set()
    for begin in peers:
        if begin in seen:
            continue
        part, waiting = set(), [begin]
        while waiting:
            vertex = waiting.pop()
            if vertex not in part:
                part.add(vertex)
                waiting += peers[vertex] - part
        seen |= part
        found.append({vertex: peers[vertex] for vertex in peers if vertex in part})
    return found
