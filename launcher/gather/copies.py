"""Several hosts have copies of the same checkpoint: one of them comes home, and who brings it is decided here.

The first host brings it as long as it answers; another one steps in when the first has been away for a moment, refused
it, or does not publish it. Copies at home are known by their folders, so that a later coordinator, and the folders of
hosts that are this machine, need no telling.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from launcher.gather.which import is_checkpoint, rank

AWAY_S = 5.0  # a connection that breaks is often back sooner, and goes on where it was
SOON_S = 3.0  # hosts that save the same step publish it so much apart, as a rule
LATER_S = 30.0  # the same, for a host that is known to publish: hashing a large one takes its time


class Turn(Enum):
    """Whose turn it is to bring a checkpoint."""

    OURS = "this host's"
    THEIRS = "another one's, which answers and has it"
    NOBODYS = "undecided: another one may come back, or publish it, in a moment"


@dataclass(eq=False)
class _Host:
    since: float  # it has been away since then
    away: bool = True
    over: bool = False  # it brings nothing any more
    names: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    looked_at: float = 0.0
    seen: dict[str, float] = field(default_factory=dict)
    brings: str = ""


class Copies:
    """Who brings what. Every method may be called from any thread.

    `homes` has the folder at home of every host of the run; those `here` are this machine, and the folder is their own.
    With `shared` off, each host's checkpoints are its own affair, as what the ranks of a program save is.
    """

    def __init__(
        self,
        homes: Mapping[str, str],
        here: Collection[str] = (),
        *,
        shared: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._homes = dict(homes)
        self._here = [homes[host] for host in here]
        self._shared = shared
        self._clock = clock
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    def join(self, host: str) -> None:
        """Its checkpoints are to come; those of hosts that joined before go first."""
        with self._lock:
            self._hosts.setdefault(host, _Host(self._clock()))

    def looks(self) -> float:
        """To be asked before a host is, and handed to `listed`: what it publishes meanwhile may be missing there."""
        return self._clock()

    def listed(
        self, host: str, names: Collection[str], refused: Collection[str], looked_at: float | None = None
    ) -> None:
        """The host answers, has these, and none is under way; `refused` are not to be had of it. See `looks`."""
        now = self._clock()
        with self._lock:
            one = self._hosts.setdefault(host, _Host(now))
            one.away, one.over, one.brings, one.looked_at = False, False, "", now if looked_at is None else looked_at
            one.names, one.refused = frozenset(names), frozenset(refused)
            one.seen = {name: one.seen.get(name, now) for name in names}

    def away(self, host: str) -> None:
        """The conversation with it has ended before its time."""
        with self._lock:
            one = self._hosts.get(host)
            if one is not None and not one.away:
                one.away, one.since = True, self._clock()

    def over(self, host: str) -> None:
        """Nothing is to be expected of it any more."""
        with self._lock:
            one = self._hosts.get(host)
            if one is not None:
                one.over, one.brings = True, ""

    def elsewhere(self, host: str) -> dict[str, str]:
        """The checkpoints of other hosts that are whole at home: the folder of each."""
        if not self._shared:
            return {}
        found: dict[str, str] = {}
        for other, home in self._homes.items():
            if other != host:
                found.update({name: f"{home}/checkpoints/{name}" for name in _published(home)})
        return found

    def turn(self, host: str, name: str, *, hurried: bool) -> Turn:
        """Whose turn it is to bring `name`, which this host has and home has not; if OURS, it is noted that we do.

        `hurried`: somebody waits for it, so it is rather brought twice than late.
        """
        with self._lock:
            turn = self._turn(host, name, hurried) if self._shared else Turn.OURS
            if turn is Turn.OURS and host in self._hosts:
                self._hosts[host].brings = name
            return turn

    def _turn(self, host: str, name: str, hurried: bool) -> Turn:
        now = self._clock()
        mine = self._hosts[host]
        for other in self._hosts.values():
            if other is not mine and other.brings == name and not other.over:
                if not other.away:
                    return Turn.THEIRS
                if not hurried and now - other.since < AWAY_S:
                    return Turn.NOBODYS
        for other in self._before(mine):
            if other.away:
                if not hurried and now - other.since < AWAY_S:
                    return Turn.NOBODYS
            elif name in other.names and name not in other.refused:
                return Turn.THEIRS
            elif name not in other.names and not self._has_looked(other, mine, name, hurried):
                return Turn.NOBODYS
        return self._after_this_machine(mine, name, now, hurried)

    def _before(self, mine: _Host) -> list[_Host]:
        joined = list(self._hosts.values())
        return [other for other in joined[: joined.index(mine)] if not other.over]

    def _has_looked(self, other: _Host, mine: _Host, name: str, hurried: bool) -> bool:
        """Whether the other has been found not to have it, long enough after we saw it."""
        patience = 0.0 if hurried else _patience(name, other.names)
        return other.looked_at > mine.seen.get(name, 0.0) + patience

    def _after_this_machine(self, mine: _Host, name: str, now: float, hurried: bool) -> Turn:
        """What a host that is this machine publishes is at home without being brought."""
        for home in self._here:
            published = _published(home)
            if published and not hurried and now < mine.seen.get(name, 0.0) + _patience(name, published):
                return Turn.NOBODYS
        return Turn.OURS


def _patience(name: str, known: Collection[str]) -> float:
    """A host that has published in this life of the cluster will do so again."""
    return LATER_S if any(rank(other)[0] == rank(name)[0] for other in known) else SOON_S


def _published(home: str) -> list[str]:
    try:
        return [path.name for path in Path(home, "checkpoints").iterdir() if is_checkpoint(path.name)]
    except OSError:
        return []
