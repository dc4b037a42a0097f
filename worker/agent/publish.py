"""Publishes checkpoints and output: verified, moved by rename, older ones pruned.

A checkpoint may be large and its hashes take seconds, so the work is cut into slices that the agent's loop does between
its other duties: no thread, and no heartbeat missed.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

from ..contract.layout import ARRAYS, AT_HOME_MARK, MANIFEST, HostFolder, parse_checkpoint_name
from .events import NotPublished, Publish, Published, RankEvent

MOST_MANIFEST = 1 << 24
SLICE_S = 0.02
_PIECE = 1 << 21
_DEEPEST = 64
_DOOMED = ".pruned-"
_RESERVE = 64 << 20  # for logs


class NotWholeError(Exception):
    """The folder is no whole checkpoint; the text says what is wrong with it."""


def free_bytes(path: str) -> int:
    """What may still be written to the disk of a folder. Raises OSError."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class Publisher:
    """A queue of checkpoints to publish, one after another."""

    def __init__(self, place: HostFolder, free_bytes: Callable[[str], int] = free_bytes) -> None:
        self._place = place
        self._free_bytes = free_bytes
        self._queue: Deque[Publish] = deque()
        self._job: Optional[Iterator[None]] = None
        self._answer: Optional[RankEvent] = None

    @property
    def busy(self) -> bool:
        return self._job is not None or bool(self._queue)

    def add(self, order: Publish) -> None:
        self._queue.append(order)

    def work(self) -> Optional[RankEvent]:
        """One slice of work; the answer to an order once it is done."""
        if self._job is None:
            if not self._queue:
                return None
            self._job = self._publish(self._queue.popleft())
        until = time.monotonic() + SLICE_S
        try:
            while time.monotonic() < until:
                next(self._job)
        except StopIteration:
            self._job = None
            answer, self._answer = self._answer, None
            return answer
        return None

    def _publish(self, order: Publish) -> Iterator[None]:
        source = os.path.join(self._place.rank_checkpoints(order.generation, order.rank), order.name)
        target = os.path.join(self._place.checkpoints, order.name)
        try:
            if os.path.isdir(target):
                self._answer = _another(source, target, order)
                return
            yield from _verify(source, order.name)
            arrays = _arrays_of(source)
            os.makedirs(self._place.checkpoints, 0o700, exist_ok=True)
            os.rename(source, target)
            sync_folder(self._place.checkpoints)
            sync_folder(os.path.dirname(source))
        except (OSError, NotWholeError) as error:
            self._answer = NotPublished(order.rank, order.name, str(error)[:1000])
            return
        pruned, unfetched = self._prune(order.keep, order.until_home)
        self._answer = Published(
            order.rank, order.name, order.epoch, order.why, tuple(pruned), arrays, tuple(unfetched)
        )

    def _prune(self, keep: Optional[int], until_home: bool) -> Tuple[List[str], List[str]]:
        """Remove all but the newest `keep`; what cannot be removed stays. The names that went, and those of them that
        should have stayed `until_home`, had there been room."""
        try:
            found = {name: parse_checkpoint_name(name) for name in os.listdir(self._place.checkpoints)}
        except OSError:
            return [], []
        for name in found:
            if name.startswith(_DOOMED):  # an earlier agent was killed while removing it
                _remove(os.path.join(self._place.checkpoints, name))
        if keep is None:
            return [], []
        names = [name for _, name in sorted((parsed, name) for name, parsed in found.items() if parsed is not None)]
        pruned, unfetched = [], []
        for name in names[:-keep]:
            is_home = AT_HOME_MARK + name in found
            if until_home and not is_home and self._has_room(names[-1]):
                continue
            if self._prune_one(name):
                pruned.append(name)
                if until_home and not is_home:
                    unfetched.append(name)
        return pruned, unfetched

    def _prune_one(self, name: str) -> bool:
        doomed = os.path.join(self._place.checkpoints, _DOOMED + name)
        try:
            os.rename(os.path.join(self._place.checkpoints, name), doomed)  # so that nobody finds half under its name
        except OSError:
            return False
        _remove(doomed)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._place.checkpoints, AT_HOME_MARK + name))
        return True

    def _has_room(self, name: str) -> bool:
        """Whether the next checkpoint, of the size of this one, will find room, and another while it is written."""
        folder = os.path.join(self._place.checkpoints, name)
        try:
            size = sum(os.lstat(os.path.join(folder, file)).st_size for file in os.listdir(folder))
            return self._free_bytes(folder) >= 2 * size + _RESERVE
        except OSError:
            return False


def sync_folder(path: str) -> None:
    """Bring a folder's own entries to the disk. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def move_output(source: str, target: str, replace: bool) -> None:
    """Move what is in folder `source` into folder `target`, folders merged; `replace` files that are there already.

    Each file is moved by one rename, so a reader finds the old one or the new one. Raises OSError.
    """
    if not os.path.isdir(source) or not os.listdir(source):
        return
    os.makedirs(target, 0o700, exist_ok=True)
    _merge(source, target, replace, 0)
    sync_folder(target)


def _merge(source: str, target: str, replace: bool, depth: int) -> None:
    for name in os.listdir(source):
        new, old = os.path.join(source, name), os.path.join(target, name)
        if not os.path.lexists(old):
            os.rename(new, old)
        elif _is_folder(new) and _is_folder(old) and depth < _DEEPEST:
            _merge(new, old, replace, depth + 1)
        elif replace:
            if _is_folder(old):
                _remove(old)
            os.rename(new, old)


def _another(source: str, target: str, order: Publish) -> NotPublished:
    """What becomes of another survivor's copy of a step that is published: it goes, unless the two are not the same."""
    theirs, ours = _arrays_of(source), _arrays_of(target)
    if theirs and ours and theirs != ours:
        return NotPublished(order.rank, order.name, "its arrays are not those of the copy that is published", theirs)
    _remove(source)
    return NotPublished(order.rank, order.name, "")


def _arrays_of(folder: str) -> str:
    """The hash of a checkpoint's arrays, as its manifest has it; empty if there is none to be read."""
    try:
        files = _manifest(os.path.join(folder, MANIFEST)).get("files")
        digest = files[ARRAYS]["sha256"] if isinstance(files, dict) else ""
    except (OSError, NotWholeError, KeyError, TypeError):
        return ""
    return digest if isinstance(digest, str) and len(digest) <= 128 else ""


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _remove(path: str) -> None:
    import shutil  # brings four compressors along, which a start need not wait for

    shutil.rmtree(path, ignore_errors=True)


def _verify(folder: str, name: str) -> Iterator[None]:
    if not _is_folder(folder):
        raise NotWholeError("it is not a folder")
    manifest = _manifest(os.path.join(folder, MANIFEST))
    if (manifest.get("generation"), manifest.get("step")) != parse_checkpoint_name(name):
        raise NotWholeError("its manifest is of another generation or step")
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        raise NotWholeError("its manifest names no files")
    for file, about in files.items():
        if not file or "/" in file or "\0" in file or file in (".", "..") or not isinstance(about, dict):
            raise NotWholeError(f"its manifest has a strange entry: {file!r:.100}")
        yield from _check(os.path.join(folder, file), file, about)


def _manifest(path: str) -> Dict[str, Any]:
    descriptor = _open(path, MANIFEST)
    with open(descriptor, "rb") as file:
        data = file.read(MOST_MANIFEST + 1)
    if len(data) > MOST_MANIFEST:
        raise NotWholeError("its manifest is too large")
    try:
        manifest = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotWholeError("its manifest is not JSON") from error
    if not isinstance(manifest, dict):
        raise NotWholeError("its manifest is not an object")
    return manifest


def _check(path: str, name: str, about: Dict[str, Any]) -> Iterator[None]:
    descriptor = _open(path, name)
    try:
        size = os.fstat(descriptor).st_size
        if size != about.get("bytes"):
            raise NotWholeError(f"{name} has {size} bytes, and {about.get('bytes')!r:.40} were written")
        digest = _sha256()
        while True:
            data = os.read(descriptor, _PIECE)
            if not data:
                break
            digest.update(data)
            yield
    finally:
        os.close(descriptor)
    if digest.hexdigest() != about.get("sha256"):
        raise NotWholeError(f"{name} does not have the hash that was written")


def _sha256() -> Any:
    import hashlib  # brings OpenSSL along, which a start need not wait for

    return hashlib.sha256()


def _open(path: str, name: str) -> int:
    """A regular file, and no link to one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotWholeError(f"{name}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotWholeError(f"{name} is not a regular file")
    return descriptor
