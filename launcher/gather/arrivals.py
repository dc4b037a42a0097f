"""Files that were asked for, as they arrive: in order, without a gap, none that nobody wants. Pure but for the sink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from launcher.gather import checked
from launcher.gather.checked import End, NonsenseError
from worker.contract import wire


@dataclass(frozen=True)
class Want:
    """A file from a byte on; it goes on there only if `tail` fits, and else begins at 0."""

    path: str
    offset: int = 0
    tail: str = ""


class Sink(Protocol):
    """Takes what comes, file after file: a `begin`, pieces without a gap from there on, an `end`."""

    def begin(self, index: int, offset: int) -> None:
        """File `index` comes from this byte on: the one that was asked for, or 0."""

    def data(self, index: int, offset: int, data: memoryview) -> None:
        """The next bytes."""

    def end(self, index: int, end: End) -> None:
        """No more of this file; it comes without a `begin` if it cannot be read."""


class Arrivals:
    """Hands frames to a sink. Raises NonsenseError, and what the sink raises."""

    def __init__(self, wants: Sequence[Want], sink: Sink) -> None:
        self._wants = wants
        self._sink = sink
        self._index = -1  # the file that has begun
        self._offset = 0
        self._next = 0  # the file that ends next: they come one after another

    @property
    def complete(self) -> bool:
        return self._next == len(self._wants)

    def feed(self, message: wire.Message, raw: bytes) -> None:
        ends = checked.ends(message)
        ends.reverse()
        for index, offset, data in checked.parts(message, raw):
            while ends and ends[-1].index < index:
                self._end(ends.pop())
            self._part(index, offset, data)
        while ends:
            self._end(ends.pop())

    def _part(self, index: int, offset: int, data: memoryview) -> None:
        if index != self._next or index >= len(self._wants):
            raise NonsenseError("bytes of a file that is not due")
        if index != self._index:
            if offset not in (0, self._wants[index].offset):
                raise NonsenseError("a file from a byte on that nobody asked for")
            self._index, self._offset = index, offset
            self._sink.begin(index, offset)
        if offset != self._offset:
            raise NonsenseError("a file with a gap")
        if data:
            self._sink.data(index, offset, data)
            self._offset += len(data)

    def _end(self, end: End) -> None:
        if end.index != self._next or end.index >= len(self._wants):
            raise NonsenseError("the end of a file that is not due")
        if not end.why and (self._index != end.index or self._offset != end.bytes):
            raise NonsenseError("a file without all of its bytes")
        self._next += 1
        self._sink.end(end.index, end)
