"""Follows a run's append-only files and sends what is new, soon after it was written, from all of them in turn.

A file is known by its inode and by its last bytes that were sent: one that is another file now, or has shrunk, or no
longer has those bytes, begins anew under a new id. Nothing is kept open, so a run may have any number of generations.
"""

from __future__ import annotations

import os
import select
import stat
import time
from typing import Any, Dict, List, Optional

from ..contract import pulling
from ..contract.inside import Inside
from .flow import Flow
from .inotify import Watcher, watcher
from .listing import generations, log_files
from .serve import goes_on

_OVERLAP = 256  # bytes before an offset that are read again, to see that they are still the same
_FIND_S = 1.0
_FIND_ALL_S = 10.0
_RECENT = 2  # generations whose files are looked at all the time
_LEAST_SHARE = 1 << 14
_FIRST_BATCH = 1 << 14  # doubled with each: over a link that breaks again and again, something must come through
_MOST_SEGMENTS = 500
_PACE_S, _SLOWEST_PACE_S = 0.02, 0.1  # between two looks, as long as the kernel tells of changes
_POLL_S, _SLOWEST_POLL_S = 0.02, 0.2  # between two looks where it does not


class Followed:
    """One file: which one it is, and how far it has been sent."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.id = -1  # not announced yet
        self.inode = 0
        self.offset = 0
        self.size = 0
        self.tail = b""

    @property
    def pending(self) -> bool:
        return self.size > self.offset


class Follower:
    """Follows what is in a folder. `known` is what the coordinator has, by path: (offset, inode, fingerprint)."""

    def __init__(self, root: Inside, flow: Flow, known: Dict[str, List[Any]]) -> None:
        self._root = root
        self._flow = flow
        self._known = known
        self._files: Dict[str, Followed] = {}
        self._recent: List[Followed] = []
        self._ids = 0
        self._announced: List[List[Any]] = []
        self._watcher: Optional[Watcher] = watcher()
        self._find_at = self._find_all_at = 0.0
        self._pace = self._poll = _PACE_S
        self._batch = _FIRST_BATCH
        self._asked: List[int] = []
        self._syncs: Dict[int, Dict[str, int]] = {}
        self._heard_at = time.monotonic()
        self.enough = False  # why it ended: the coordinator wants something else

    def run(self) -> None:
        """Until the input ends, there was enough, or nobody has said a word for long. Raises OSError when nobody reads
        any more."""
        try:
            while True:
                everything = self._find()
                pending = self._look(everything)
                self._answer_syncs()
                if not self._wait(pending):
                    return
        finally:
            if self._watcher is not None:
                self._watcher.close()

    def _find(self) -> bool:
        """Look for files that are new; whether every generation was looked at."""
        now = time.monotonic()
        everything = bool(self._asked) or now >= self._find_all_at
        if not everything and now < self._find_at:
            return False
        self._find_at = now + _FIND_S
        self._root.refresh()
        folders = generations(self._root)
        if everything:
            self._find_all_at = now + _FIND_ALL_S
        recent = folders[-_RECENT:]
        self._watch(recent)
        for path in log_files(self._root, folders if everything else recent):
            if path not in self._files:
                self._files[path] = Followed(path)
        places = ("events.jsonl", "agent.log", "zygote.log", *(f"{folder}/" for folder in recent))
        self._recent = [file for file in self._files.values() if file.path.startswith(places)]
        return everything

    def _watch(self, folders: List[str]) -> None:
        if self._watcher is None:
            return
        self._watcher.watch("", self._root.folder())
        for folder in folders:
            try:
                self._watcher.watch(folder, self._root.folder(folder))
            except OSError:
                continue

    def _look(self, everything: bool) -> bool:
        """Send what is new, as far as the window goes; whether something is left."""
        for file in self._files.values() if everything else self._recent:
            self._check(file)
        for number in self._asked:
            self._syncs[number] = {file.path: file.size for file in self._files.values() if file.id >= 0}
        self._asked = []
        pending = sorted((file for file in self._files.values() if file.pending), key=_urgency)
        while (pending or self._announced) and not self._flow.full:
            pending = self._send_some(pending)
        return bool(pending)

    def _check(self, file: Followed) -> None:
        """See how large a file is now, and whether it is still the same one."""
        try:
            found = self._root.stat(file.path)
        except OSError:
            return
        if not stat.S_ISREG(found.st_mode):
            return
        file.size = found.st_size
        if file.id < 0:
            self._meet(file, found.st_ino)
        elif found.st_ino != file.inode:
            self._begin(file, found.st_ino, "replaced")
        elif found.st_size < file.offset:
            self._begin(file, found.st_ino, "shrank")

    def _meet(self, file: Followed, inode: int) -> None:
        """A file that is seen for the first time on this connection."""
        try:
            offset, known_inode, tail = self._known.get(file.path, (0, None, ""))
            offset = int(offset)
        except (TypeError, ValueError):
            offset, known_inode, tail = 0, None, ""
        if not offset:
            self._begin(file, inode, "new")
            return
        if known_inode not in (None, inode):
            self._begin(file, inode, "replaced")
            return
        try:
            descriptor = self._root.read(file.path)
        except OSError:
            return
        try:
            same = goes_on(descriptor, file.size, offset, str(tail))
            seen = os.pread(descriptor, min(offset, _OVERLAP), offset - min(offset, _OVERLAP)) if same else b""
        except OSError:
            return
        finally:
            os.close(descriptor)
        if not same:
            self._begin(file, inode, "shrank" if file.size < offset else "rewritten")
            return
        self._begin(file, inode, "goes on", offset, seen)

    def _begin(self, file: Followed, inode: int, why: str, offset: int = 0, tail: bytes = b"") -> None:
        file.id = self._ids
        self._ids += 1
        file.inode, file.offset, file.tail = inode, offset, tail
        self._announced.append([file.id, file.path, inode, offset, why])

    def _send_some(self, pending: List[Followed]) -> List[Followed]:
        """One frame with something of as many files as fit; those that have more, the ones left out first."""
        parts: List[List[int]] = []
        pieces: List[bytes] = []
        later: List[Followed] = []
        left_out: List[Followed] = []
        room = self._batch
        self._batch = min(pulling.BATCH, 2 * room)
        share = max(_LEAST_SHARE, room // max(1, len(pending)))
        for file in pending:
            if not room:
                left_out.append(file)
                continue
            data = self._read(file, min(share, room))
            if data:
                parts.append([file.id, file.offset - len(data), len(data)])
                pieces.append(data)
                room -= len(data)
            if file.pending:
                later.append(file)
        # Announced after reading, which may find that a file begins anew, and before its bytes are sent.
        while len(self._announced) > _MOST_SEGMENTS:
            segments, self._announced = self._announced[:_MOST_SEGMENTS], self._announced[_MOST_SEGMENTS:]
            self._flow.send({"type": pulling.PARTS, "segments": segments, "parts": []})
        segments, self._announced = self._announced, []
        if segments or parts:
            raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._flow.send({"type": pulling.PARTS, "segments": segments, "parts": parts}, raw)
        return left_out + later

    def _read(self, file: Followed, most: int) -> bytes:
        """The next bytes of a file; nothing if it cannot be read now or begins anew."""
        try:
            descriptor = self._root.read(file.path)
        except OSError:
            file.size = file.offset  # until the next look
            return b""
        try:
            if os.fstat(descriptor).st_ino != file.inode:
                file.size = file.offset  # replaced since the look: the next one tells
                return b""
            count = len(file.tail)
            data = os.pread(descriptor, count + most, file.offset - count)
        except OSError:
            file.size = file.offset
            return b""
        finally:
            os.close(descriptor)
        if data[:count] != file.tail:
            self._begin(file, file.inode, "rewritten")
            return b""
        fresh = data[count:]
        if not fresh:
            file.size = file.offset
            return b""
        file.offset += len(fresh)
        file.tail = (file.tail + fresh)[-_OVERLAP:]
        return fresh

    def _answer_syncs(self) -> None:
        for number, sizes in list(self._syncs.items()):
            behind = [path for path, size in sizes.items() if self._is_behind(path, size)]
            if behind or self._announced:
                self._syncs[number] = {path: sizes[path] for path in behind}
                continue
            del self._syncs[number]
            self._flow.send({"type": pulling.SYNCED, "n": number})

    def _is_behind(self, path: str, size: int) -> bool:
        file = self._files[path]
        return file.pending and file.offset < size

    def _wait(self, pending: bool) -> bool:
        """Until there is a reason to look again; False when there is none any more."""
        if pending and not self._flow.full:
            return self._listen(0.0)
        if self._flow.full:
            return self._listen(pulling.ALIVE_S)
        if self._watcher is None:
            self._poll = min(_SLOWEST_POLL_S, self._poll * 1.5) if self._quiet() else _POLL_S
            return self._listen(self._poll)
        return self._wait_for_kernel(self._watcher)

    def _wait_for_kernel(self, kernel: Watcher) -> bool:
        # A pause first: what was written meanwhile goes in one frame. It grows while there is always something.
        self._pace = _PACE_S if self._quiet() else min(_SLOWEST_PACE_S, self._pace * 1.2)
        if not self._listen(self._pace):
            return False
        if self._flow.full or self._asked:
            return True
        poll = select.poll()
        poll.register(kernel.fileno(), select.POLLIN)
        poll.register(self._flow.talk.input_fileno(), select.POLLIN)
        left = max(0.0, self._find_at - time.monotonic())
        for descriptor, _ in poll.poll(int(left * 1000) + 1):
            if descriptor == kernel.fileno():
                kernel.drain()
        self._flow.beat()
        return self._listen(0.0)

    def _quiet(self) -> bool:
        return time.monotonic() - self._flow.sent_at > 2 * _SLOWEST_PACE_S

    def _listen(self, timeout_s: float) -> bool:
        """Take what the coordinator says, waiting for it so long at most; False when it has left."""
        talk = self._flow.talk
        poll = select.poll()
        poll.register(talk.input_fileno(), select.POLLIN)
        until = time.monotonic() + timeout_s
        while True:
            left = until - time.monotonic()
            if not talk.pending and not poll.poll(max(0, int(left * 1000))):
                break
            frame = talk.receive()
            if frame is None:
                return False
            self._hear(frame[0])
            if self.enough:
                return False
            if self._asked or (timeout_s >= pulling.ALIVE_S and not self._flow.full):
                break
        if not self._flow.full:
            self._flow.beat()
        return time.monotonic() - self._heard_at < pulling.SILENCE_S

    def _hear(self, message: Dict[str, Any]) -> None:
        self._heard_at = time.monotonic()
        if message["type"] == pulling.ACK:
            self._flow.acknowledge(message)
        elif message["type"] == pulling.SYNC and isinstance(message.get("n"), int):
            self._asked.append(message["n"])
        elif message["type"] == pulling.ENOUGH:
            self.enough = True


def _urgency(file: Followed) -> Any:
    """Journals first, then the newest generation, progress before logs."""
    if "/" not in file.path:
        return (0, 0, 0, file.path)
    folder, name = file.path.split("/")
    return (1, -int(folder[1:]), not name.endswith(".progress.jsonl"), name)
