"""The agent's journal: append-only lines, each with a number. A full disk delays lines, it never loses their order."""

from __future__ import annotations

import os
import time
from typing import Dict, List, Optional, Set

from ..contract import records
from ..contract.records import Record
from .who import Past

_PIECE = 1 << 18
_DURABLE = frozenset(
    {
        records.COMMANDED_BY,
        records.RANK_STARTED,
        records.RANK_RESULT,
        records.CHECKPOINT,
        records.RANK_ENDED,
        records.GENERATION_ENDED,
        records.HOST_GOING,
        records.LEASE_ENDED,
        records.AGENT_LEFT,
    }
)


class Journal:
    """The journal of a host folder, open for appending. Raises OSError only from its constructor."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._waiting = bytearray()  # not on disk yet
        self.waiting: List[Record] = []
        self._dirty = False
        self.problem: Optional[OSError] = None
        self.past = self._read_past()

    def append(self, record: Record) -> None:
        """Stamp and write a record; one that cannot be written now is kept for the next `sync`."""
        stamped = {"t": round(time.time(), 6), **record}
        self.waiting.append(stamped)
        self._waiting += records.dumps(stamped)
        self._dirty = self._dirty or record["type"] in _DURABLE
        if self.problem is None:
            self._flush()

    def sync(self) -> None:
        """Write what is waiting, and bring to the disk what must not be lost."""
        if self._waiting:
            self._flush()
        if self._dirty and not self._waiting:
            try:
                os.fsync(self._file)
                self._dirty = False
            except OSError as error:
                self.problem = error

    def _flush(self) -> None:
        try:
            while self._waiting:
                # A write may be cut short by a full disk in the middle of a line: the rest goes on from there.
                del self._waiting[: os.write(self._file, self._waiting)]
        except OSError as error:
            self.problem = error
            return
        self.waiting.clear()
        self.problem = None

    def close(self) -> None:
        """What is waiting still is lost."""
        os.close(self._file)

    def read(self, offset: int) -> bytes:
        try:
            return os.pread(self._file, _PIECE, offset)
        except OSError:
            return b""

    def size(self) -> int:
        return os.fstat(self._file).st_size

    def _read_past(self) -> Past:
        """What earlier agents wrote; a last line that was cut short gets an end, so that ours begin on their own."""
        term = generation = seq = offset = 0
        unended: Dict[int, Set[int]] = {}
        data = b""
        while True:
            piece = self.read(offset + len(data))
            if not piece:
                break
            found, length = records.parse(data + piece)
            data = (data + piece)[length:]
            offset += length
            for record in found:
                seq = max(seq, _whole(record.get("seq")))
                term = max(term, _whole(record.get("term")))
                generation = max(generation, _whole(record.get("generation")))
                _follow(unended, record)
        if data:
            self._waiting += b"\n"
            self._flush()
            seq += 1  # the number that the cut line may have had, and that somebody may have been told
        return Past(term, generation, seq, {number: sorted(ranks) for number, ranks in unended.items()})


def _follow(unended: Dict[int, Set[int]], record: Record) -> None:
    generation, rank = _whole(record.get("generation")), record.get("rank")
    if record["type"] == records.GENERATION_ENDED:
        unended.pop(generation, None)
    elif record["type"] == records.RANK_STARTED and isinstance(rank, int):
        unended.setdefault(generation, set()).add(rank)
    elif record["type"] == records.RANK_ENDED and isinstance(rank, int):
        unended.setdefault(generation, set()).discard(rank)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else 0


class Follower:
    """Reads a journal from a number on, in order and without a gap, written or waiting."""

    def __init__(self, journal: Journal, since: int, seq: int) -> None:
        self._journal = journal
        self.since = since
        self._offset = 0 if since < seq else journal.size()
        self.more = False  # the last `take` did not come to the end

    def take(self) -> List[Record]:
        """The next events, a bounded number of them."""
        data = self._journal.read(self._offset)
        self.more = len(data) == _PIECE
        found, length = records.parse(data)
        if not length and len(data) == _PIECE:  # no line of ours is that long
            length = len(data)
        self._offset += length
        if not self.more:
            found = found + self._journal.waiting
        fresh: List[Record] = []
        for record in found:
            if _whole(record.get("seq")) > self.since:
                self.since = record["seq"]
                fresh.append(record)
        return fresh
