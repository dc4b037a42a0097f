"""What to bring of one host next: after looking at what it has, what is at home, and what others bring."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from launcher.gather.arrivals import Want
from launcher.gather.asking import Pull
from launcher.gather.at_home import AtHome
from launcher.gather.checked import End, NonsenseError
from launcher.gather.copies import Copies, Turn
from launcher.gather.disk import Tell
from launcher.gather.which import ALL, next_wanted, to_prune
from worker.contract import pulling
from worker.contract.checkpoints import ARRAYS, MANIFEST

_MOST_MANIFEST = 1 << 20


class Next(NamedTuple):
    """The checkpoint to bring now, or ""; then `turn` says whether nothing is left to do, or what is waited for."""

    name: str
    turn: Turn = Turn.OURS


class Choosing:
    """Looks over one conversation. For one thread; raises what a Pull and a Disk raise.

    `once`: only what the host has at the first look.
    """

    def __init__(
        self,
        host: str,
        pull: Pull,
        here: AtHome,
        copies: Copies,
        *,
        home: str,
        keep: int | None,
        tell: Tell,
        once: bool = False,
    ) -> None:
        self._host, self._pull, self._here, self._copies = host, pull, here, copies
        self._home, self._keep, self._tell, self._once = home, keep, tell, once
        self._only: frozenset[str] | None = None
        self._alike: dict[str, bool] = {}  # by name: whether the host's copy is that at home
        self._told: set[str] = set()

    def look(self, *, hurried: bool) -> Next:
        """What to do now; prunes at home, and lets go of what another host has brought. See Copies for `hurried`."""
        looked_at = self._copies.looks()
        there = self._listing()
        self._copies.listed(self._host, there, self._here.refused, looked_at)
        elsewhere = self._copies.elsewhere(self._host)
        own = set(self._here.names())
        differ = [name for name in there if name in elsewhere and name not in own and self._differs(name, elsewhere)]
        known = own | (elsewhere.keys() - set(differ))
        self._here.prune(self._keep, known)
        self._let_prune(there, known)
        begun = self._here.begun()
        if begun in known:
            self._let_go(begun)
            begun = ""
        doomed = to_prune({*there, *known}, self._keep)
        for name in differ:
            if name not in doomed and name not in self._here.refused:
                return Next(name)  # both are kept: nobody knows which of them is right
        name = next_wanted(there, known, begun, self._here.refused, self._home, self._keep)
        if begun and name != begun:  # another host has brought a newer one, while this one was away
            self._let_go(begun)
        if not name:
            return Next("")
        turn = self._copies.turn(self._host, name, hurried=hurried)
        return Next(name if turn is Turn.OURS else "", turn)

    def _let_go(self, begun: str) -> None:
        self._here.drop(begun)
        self._pull.release()

    def _listing(self) -> list[str]:
        there = self._pull.listing(pulling.CHECKPOINTS).checkpoints
        if self._once and self._only is None:
            self._only = frozenset(there)
        return [name for name in there if self._only is None or name in self._only]

    def _let_prune(self, there: Collection[str], known: Collection[str]) -> None:
        """Tell the host what it need not keep any longer for our sake."""
        if self._home == ALL:
            for name in there:
                if name in known and name not in self._told:
                    self._pull.at_home(name)
                    self._told.add(name)

    def _differs(self, name: str, elsewhere: dict[str, str]) -> bool:
        """Whether the host's copy holds other arrays than the one at home; only its manifest comes for that."""
        if name not in self._alike:
            ours = _arrays_in(elsewhere[name])
            theirs = self._arrays_there(name)
            if not theirs or (not ours and not Path(elsewhere[name]).is_dir()):
                return False  # pruned, on this side or that: another look
            self._alike[name] = theirs == ours
            if ours and theirs != ours:
                self._tell(
                    f"the copy of {name} on {self._host} does not hold the same numbers as the one that is at home"
                )
        return not self._alike[name]

    def _arrays_there(self, name: str) -> str:
        sink = _Manifest()
        self._pull.get([Want(f"checkpoints/{name}/{MANIFEST}")], sink, with_hash=False)
        return _arrays(bytes(sink.bytes)) if sink.whole else ""


class _Manifest:
    """A sink for one small file."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.whole = False

    def begin(self, index: int, offset: int) -> None:
        """Nothing is here before."""

    def data(self, index: int, offset: int, data: memoryview) -> None:  # noqa: ARG002 - a Sink
        if len(self.bytes) + len(data) > _MOST_MANIFEST:
            raise NonsenseError("a manifest of more bytes than any has")
        self.bytes += data

    def end(self, index: int, end: End) -> None:  # noqa: ARG002 - a Sink
        self.whole = not end.why


def _arrays_in(folder: str) -> str:
    """The hash of a checkpoint's arrays, as its manifest has it; empty if there is none to be read."""
    try:
        with open(f"{folder}/{MANIFEST}", "rb") as file:
            return _arrays(file.read(_MOST_MANIFEST))
    except OSError:
        return ""


def _arrays(manifest: bytes) -> str:
    try:
        return str(json.loads(manifest)["files"][ARRAYS]["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
