"""Reading files that grow: only what is new, in bounded pieces, and from the start again when a file was replaced."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.runs.fields import number, text
from launcher.runs.journal import MAX_JOURNAL, RecordBuffer
from worker.contract import records
from worker.contract.records import Record

_PIECE = 1 << 18
_END = 1 << 16  # how much of a progress file's end is enough to hold its newest step
_MAX_PHASES = 50
FIRST_STEP = "first_step"
_ENDS = re.compile(rb"(\r\n|\n|\r)")


class Tail:
    """A file's bytes, once each. A missing file is an empty one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.offset = 0
        self.restarts = 0  # how often it began anew, because the file had shrunk or was another one
        self._identity: tuple[int, int] | None = None

    def read(self, limit: int = _PIECE) -> bytes:
        """At most `limit` new bytes; empty when there is nothing new."""
        size = self.size()
        if size <= self.offset:
            return b""
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset)
                data = file.read(min(limit, size - self.offset))
        except OSError:
            return b""
        self.offset += len(data)
        return data

    def size(self) -> int:
        """The file's size now; goes back to its start when it is not the file that was read before."""
        try:
            stat = self.path.stat()
        except OSError:
            return 0
        identity = (stat.st_dev, stat.st_ino)
        if self._identity is not None and (identity != self._identity or stat.st_size < self.offset):
            self.offset = 0
            self.restarts += 1
        self._identity = identity
        return stat.st_size


class RecordTail:
    """The records of a growing journal, from its start; nothing is taken beyond 64 MiB."""

    def __init__(self, path: str | Path) -> None:
        self.records: list[Record] = []
        self._tail = Tail(path)
        self._buffer = RecordBuffer()
        self._restarts = 0

    def read(self) -> bool:
        """Take all that is new into `records`; True when there was something."""
        changed = False
        while self._tail.offset < MAX_JOURNAL:
            data = self._tail.read()
            if self._tail.restarts != self._restarts:
                self._restarts = self._tail.restarts
                self._buffer = RecordBuffer()
                self.records = []
                changed = True
            if not data:
                break
            found = self._buffer.feed(data)
            self.records += found
            changed = changed or bool(found)
        return changed


@dataclass(frozen=True)
class Progress:
    """What a rank's progress file tells: its phases in order, the first record of a step and the newest one."""

    phases: tuple[tuple[str, float], ...] = ()
    first: Record | None = None
    step: Record | None = None
    first_step_at: float | None = None


class ProgressTail:
    """The newest of a progress file: its head once, then only its end, however long the middle has become."""

    def __init__(self, path: str | Path) -> None:
        self.progress = Progress()
        self._tail = Tail(path)
        self._buffer = RecordBuffer()
        self._restarts = 0

    def read(self) -> bool:
        """Take what is new; True when there was something. Reads at most 4 MiB."""
        changed = False
        for _ in range(64):
            self._go_to_what_counts()
            data = self._tail.read(_END)
            if not data:
                break
            changed = True
            for record in self._buffer.feed(data):
                self._take(record)
        return changed

    def _go_to_what_counts(self) -> None:
        size = self._tail.size()
        if self._tail.restarts != self._restarts:
            self._restarts = self._tail.restarts
            self._buffer = RecordBuffer()
            self.progress = Progress()
        if self._tail.offset >= _END and size - self._tail.offset > _PIECE:
            self._tail.offset = size - _END
            self._buffer = RecordBuffer()  # the half line at the jump does not parse, and is passed over

    def _take(self, record: Record) -> None:
        if record["type"] == records.STEP:
            self.progress = replace(self.progress, step=record, first=self.progress.first or record)
        elif record["type"] == records.PHASE:
            name, seconds = text(record, "name")[:40], number(record, "seconds")
            if not name or seconds is None or len(self.progress.phases) >= _MAX_PHASES:
                return
            self.progress = replace(self.progress, phases=(*self.progress.phases, (name, seconds)))
            if name == FIRST_STEP:
                self.progress = replace(self.progress, first_step_at=number(record, "t"))


class LineTail:
    """The lines of a growing log, each cut at `max_line` bytes.

    A line that carriage returns write over again and again (a progress bar) is given once a read: its newest state.
    """

    def __init__(self, path: str | Path, max_line: int = 8192) -> None:
        self._tail = Tail(path)
        self._max_line = max_line
        self._rest = b""
        self._restarts = 0

    def behind(self) -> int:
        """How many bytes are there that were not read."""
        return max(0, self._tail.size() - self._tail.offset)

    def skip_to_last(self, lines: int) -> None:
        """Go to where the last `lines` lines start, looking no further back than 64 KiB."""
        size = self._tail.size()
        self._tail.offset = max(0, size - _END)
        data = self._tail.read(_END)
        kept = data.splitlines(keepends=True)[-lines:] if lines else []
        self._tail.offset -= len(b"".join(kept))
        self._rest = b""

    def read(self, limit: int = _PIECE) -> list[bytes]:
        """The lines that new bytes complete, without their ends; at most `limit` bytes are read."""
        data = self._tail.read(limit)
        if self._tail.restarts != self._restarts:
            self._restarts = self._tail.restarts
            self._rest = b""
        if not data:
            return []
        parts = _ENDS.split(self._join(data))
        if len(parts) > 1 and parts[-1] == b"" and parts[-2] == b"\r":
            parts[-3:] = [parts[-3] + b"\r"]  # perhaps the first half of \r\n
        self._rest = parts[-1]
        last = len(parts) - 3
        return [
            parts[i][: self._max_line]
            for i in range(0, len(parts) - 1, 2)
            if parts[i + 1] != b"\r" or (i == last and parts[i])
        ]

    def rest(self) -> list[bytes]:
        """The unfinished last line, when nothing more will come."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        return [rest[: self._max_line]] if rest else []

    def _join(self, data: bytes) -> bytes:
        # What is over the limit of an unfinished line is dropped here, so an endless line holds no memory; its last
        # byte stays, since a carriage return there may be half of a line's end.
        if len(self._rest) > self._max_line:
            self._rest = self._rest[: self._max_line] + (b"\r" if self._rest.endswith(b"\r") else b"")
        return self._rest + data


def last_lines(path: str | Path, count: int) -> list[bytes]:
    """The last lines of a log, looking no further back than 64 KiB; none when there is no such file."""
    tail = LineTail(path)
    tail.skip_to_last(count)
    lines: list[bytes] = []
    while found := tail.read():
        lines += found
    return (lines + tail.rest())[-count:]


def last_words(log: str, count: int) -> list[str]:
    """The last lines of a log as text. Control characters stay: whoever shows the lines neutralises them."""
    return [line.decode("utf-8", "replace").rstrip("\r\n") for line in last_lines(log, count)]
