"""What a run leaves in its output folders comes home: what grows is added to, what was replaced is copied and renamed.

A rank's output folder is mirrored while the rank writes to it, so that TensorBoard can look at home; when the agent
moves it to the run's output, the files are known by their inodes and are moved here, too. What is deleted on the host
stays at home.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from launcher.gather.again import Gatherer, Source
from launcher.gather.arrivals import Want
from launcher.gather.asking import Pull
from launcher.gather.checked import NonsenseError, Remote, in_frames
from launcher.gather.disk import COMING, FULL, Disk, FullDisk, Notes, Tell
from launcher.gather.output_plan import Have, todo
from launcher.gather.sinks import Copies, Growth
from worker.contract import pulling
from worker.contract.inside import steps

_NOTES = "output.jsonl"
_COMING_NOTES = "coming.jsonl"
_RESERVE = 64 << 20
_EVERY_S = 1.0
_MOST_TRIES = 3
_MOST_BYTES_AT_ONCE = 64 << 20
_RESUMABLE = 1 << 22  # a copy of fewer bytes is begun anew after a cut

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Limits:
    """What one host may leave at home as output."""

    files: int = 100_000
    bytes: int = 1 << 37


class Output(Gatherer):
    """Mirrors one host's output; see Gatherer for the other arguments."""

    what = "output"

    def __init__(
        self,
        source: Source,
        *,
        limits: Limits | None = None,
        tell: Tell = lambda _: None,
        full: FullDisk | None = None,
    ) -> None:
        super().__init__(source, tell=tell, full=full)
        self._limits = limits or Limits()

    def _converse(self, pull: Pull, disk: Disk) -> None:
        here = OutputAtHome(disk, self._limits, lambda text: self._tell_once(f"{self.host}: {text}"))
        while not self._stopping.is_set():
            asked = self._asked
            began = time.monotonic()
            left = here.look(pull, final=asked > self._settled)
            self._heard()
            if not left:
                self._settle(asked)
                self._pause(max(_EVERY_S, 20 * (time.monotonic() - began)))


class OutputAtHome:
    """The output files of one host that are here. For one thread."""

    def __init__(self, disk: Disk, limits: Limits, tell: Tell, progress: Progress | None = None) -> None:
        self._disk = disk
        self._limits = limits
        self._tell = tell
        self._progress = progress
        self._notes = Notes(disk, _NOTES)
        self._coming = Notes(disk, _COMING_NOTES)
        self._have = {path: have for path, note in self._notes.of.items() if (have := self._read_note(path, note))}
        self._before: dict[str, Remote] = {}
        self._hopeless: dict[str, Remote] = {}  # cannot be kept here under its name
        self._proved: set[str] = set()
        self._torn: dict[str, int] = {}  # how often a file was changed while it was copied

    def look(self, pull: Pull, *, final: bool) -> bool:
        """List what is there and bring what is new; True if it is worth another look at once.

        `final`: nobody writes any more, so nothing is left for a later look.
        """
        listing = pull.listing(pulling.OUTPUT)
        if listing.cut:
            self._tell("it has more output files than can be listed; some stay there")
        files = [file for file in listing.files if self._is_wanted(file)]
        plan = todo(files, self._have, self._before, final)
        self._before = {file.path: file for file in files}
        for old, file in plan.moves:
            self._move(old, file)
        room = self._room()
        grows = self._affordable(plan.grows, room)
        copies = self._affordable(plan.copies, room - sum(file.bytes for file in grows))
        for group in _groups(grows):
            self._grow(pull, group)
        torn = [self._copy(pull, group) for group in _groups(copies)]
        return bool(plan.moves) or any(torn)

    def files(self) -> dict[str, int]:
        """The size of each file that is here."""
        return {path: have.bytes for path, have in self._have.items()}

    def unproved(self) -> dict[str, int]:
        """Of those, the ones whose whole content has not been compared with the host's since this object was made."""
        return {path: size for path, size in self.files().items() if path not in self._proved}

    def forget(self, path: str) -> None:
        """What is here of a file is not what the host has: bring all of it again."""
        self._have.pop(path, None)

    def _read_note(self, path: str, note: dict[str, object]) -> Have | None:
        size, inode, mtime_ns = note.get("bytes"), note.get("inode"), note.get("mtime_ns")
        here = self._disk.inside.size(path) if pulling.is_output(path) else 0
        if not isinstance(inode, int) or not isinstance(mtime_ns, int) or not isinstance(size, int):
            return None
        if note.get("grows") is True:
            return Have(here, inode, mtime_ns) if here else None
        return Have(size, inode, mtime_ns) if here == size else None

    def _is_wanted(self, file: Remote) -> bool:
        if not pulling.is_output(file.path):
            raise NonsenseError(f"output where none can be: {file.path!r:.200}")
        try:
            steps(file.path)
        except ValueError:
            return False
        return self._hopeless.get(file.path) != file

    def _room(self) -> int:
        here = sum(have.bytes for have in self._have.values())
        return min(self._limits.bytes - here, self._disk.free_bytes() - _RESERVE)

    def _affordable(self, files: Sequence[Remote], room: int) -> list[Remote]:
        """Those that there is room for; of the others it is told once."""
        kept: list[Remote] = []
        count = len(self._have)
        for file in files:
            have = self._have.get(file.path)
            more = file.bytes - (have.bytes if have else 0)
            count += have is None
            if more > room or count > self._limits.files:
                self._tell("not all of its output has room here; what is left out stays there")
                continue
            room -= max(0, more)
            kept.append(file)
        return kept

    def _move(self, old: str, file: Remote) -> None:
        try:
            self._disk.inside.rename(old, file.path)
        except OSError as error:
            self._cannot(file, error)
            return
        have = self._have.pop(old)
        self._remember({file.path: have})

    def _grow(self, pull: Pull, files: Sequence[Remote]) -> None:
        self._disk.heed()
        wants = []
        for file in files:
            have = self._have.get(file.path)
            offset = have.bytes if have else 0
            wants.append(Want(file.path, offset, self._disk.tail(file.path, offset) if offset else ""))
        # Before the bytes: after a crash the file's size says how far it has come.
        self._have.update({f.path: Have(w.offset, f.inode, f.mtime_ns) for f, w in zip(files, wants, strict=True)})
        notes = {file.path: {**_note(file), "grows": True} for file in files if not self._knows_growing(file)}
        if notes:
            self._notes.put(notes)
        sink = Growth(self._disk, [file.path for file in files], self._report)
        try:
            pull.get(wants, sink, with_hash=False)
        finally:
            sink.close()
            self._note_sizes(files)
        for index, error in sink.failed.items():
            self._cannot(files[index], error)

    def _knows_growing(self, file: Remote) -> bool:
        note = self._notes.of.get(file.path, {})
        return note.get("grows") is True and note.get("inode") == file.inode

    def _copy(self, pull: Pull, files: Sequence[Remote]) -> bool:
        """Whether some were changed under our hands and are worth another try at once."""
        self._disk.heed()
        temporary = [_temporary(file) for file in files]
        wants = [self._want(file, path) for file, path in zip(files, temporary, strict=True)]
        notes = {t: {"of": f.path, **_note(f)} for f, t in zip(files, temporary, strict=True) if f.bytes >= _RESUMABLE}
        if notes:
            self._coming.put(notes)
        sink = Copies(self._disk, temporary, [file.path for file in files], self._report)
        try:
            pull.get(wants, sink, with_hash=True)
        finally:
            sink.close()
            done = {files[i].path: Have(end.bytes, end.inode, end.mtime_ns) for i, end in sink.done.items()}
            self._remember(done)
            self._proved |= done.keys()
        for index, error in sink.failed.items():
            self._cannot(files[index], error)
        for index in sink.torn:
            self._torn[files[index].path] = self._torn.get(files[index].path, 0) + 1
        return any(self._torn[files[index].path] <= _MOST_TRIES for index in sink.torn)

    def _want(self, file: Remote, temporary: str) -> Want:
        """From the byte on where a cut left the copy, if it is still that file; else from 0."""
        if self._coming.of.get(temporary) == {"of": file.path, **_note(file)}:
            here = self._disk.inside.size(temporary)
            if 0 < here <= file.bytes:
                return Want(file.path, here, self._disk.tail(temporary, here))
        return Want(file.path)  # what may lie under the temporary name is written over

    def _note_sizes(self, files: Sequence[Remote]) -> None:
        for file in files:
            have = self._have[file.path]
            self._have[file.path] = Have(self._disk.inside.size(file.path), have.inode, have.mtime_ns)

    def _remember(self, news: dict[str, Have]) -> None:
        self._have.update(news)
        if news:
            self._notes.put({path: _note(have) for path, have in news.items()})

    def _cannot(self, file: Remote, error: OSError) -> None:
        if error.errno in FULL:
            raise error
        self._hopeless[file.path] = file
        why = error.strerror or os.strerror(error.errno or errno.EIO)
        self._tell(f"an output file cannot be kept here: {file.path!r:.300}: {why}")

    def _report(self, path: str, count: int) -> None:
        if self._progress is not None:
            self._progress(path, count)


def _groups(files: Sequence[Remote]) -> Iterator[list[Remote]]:
    """So many at once that one request for them is no burden."""
    by_path = {file.path: file for file in files}
    for paths in in_frames(by_path):
        group: list[Remote] = []
        size = 0
        for file in (by_path[path] for path in paths):
            size += file.bytes
            if group and size > _MOST_BYTES_AT_ONCE:
                yield group
                group, size = [], file.bytes
            group.append(file)
        yield group


def _temporary(file: Remote) -> str:
    if file.bytes < _RESUMABLE:
        return f"{COMING}/small"  # one after another: making many names in one folder is what costs most on ext4
    return f"{COMING}/o-{hashlib.sha256(file.path.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}"


def _note(file: Remote | Have) -> dict[str, int]:
    return {"bytes": file.bytes, "inode": file.inode, "mtime_ns": file.mtime_ns}
