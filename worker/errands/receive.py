"""`receive`: takes a checkpoint from the coordinator into a run's folder here; see `contract.receiving`.

What a cut left is gone on with. It is verified as a whole and then renamed, so under its name it is never half.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import threading
from typing import Callable, Dict, List, TypeVar

from ..contract import receiving, wire
from ..contract.checkpoints import ARRAYS, FILES, MANIFEST, read_manifest, verify
from ..contract.inside import Inside, text
from ..contract.layout import parse_checkpoint_name
from .talk import Talk

_FOLDER = "checkpoints"
_COMING = ".coming-"
_DOOMED = ".pruned-"  # what the agent removes if we do not come to it
T = TypeVar("T")


class RefusedError(Exception):
    """It cannot be taken; the text says why."""


def main(argv: List[str]) -> int:
    """Serve one conversation; returns when its input ends."""
    if argv:
        print("usage: python WORKER_FOLDER receive    (speaks over standard input and output)", file=sys.stderr)
        return 2
    talk = Talk()
    try:
        frame = talk.receive()
        if frame is not None:
            Receiver(talk, frame[0]).serve()
    except (RefusedError, OSError) as error:
        with contextlib.suppress(OSError):
            talk.send({"type": receiving.REFUSED, "why": _why(error)})
        return 1
    except wire.WireError as error:
        print(f"receive: {error}", file=sys.stderr)
        return 1
    return 0


class Receiver:
    """One checkpoint on its way in. Raises RefusedError, OSError, wire.WireError."""

    def __init__(self, talk: Talk, offer: wire.Message) -> None:
        self._talk = talk
        folder, name, files = offer.get("folder"), offer.get("name"), offer.get("files")
        if offer["type"] != receiving.OFFER or not isinstance(folder, str) or "\0" in folder:
            raise wire.WireError("the first request must offer a checkpoint")
        path = os.path.expanduser(folder)
        if not os.path.isabs(path):
            raise wire.WireError("the folder must be an absolute path, or begin with ~")
        if not isinstance(name, str) or parse_checkpoint_name(name) is None:
            raise wire.WireError("an offer without the name of a checkpoint")
        if not isinstance(files, dict) or sorted(files) != sorted((*FILES, MANIFEST)):
            raise wire.WireError("an offer without the files of a checkpoint")
        if not all(isinstance(size, int) and size >= 0 for size in files.values()):
            raise wire.WireError("an offer with a strange size")
        self._sizes: Dict[str, int] = files
        self._arrays, self._manifest = str(offer.get("arrays")), str(offer.get("manifest"))
        self._root = Inside(path, make=True)
        self._path = path
        self._name = name
        # Named by what it holds: what a cut left of another checkpoint of this name is never gone on with.
        self._coming = f"{_FOLDER}/{_COMING}{name}-{hashlib.sha256(self._manifest.encode()).hexdigest()[:16]}"

    def serve(self) -> None:
        if self._is_here():
            self._talk.send({"type": receiving.HAVE, "path": self._published()})
            return
        self._root.folder(self._coming, make=True)
        self._drop_others()
        self._check_room()
        self._talk.send({"type": receiving.WANTS, "offsets": self._offsets()})
        while True:
            frame = self._talk.receive()
            if frame is None:
                return
            message, raw = frame
            if message["type"] == receiving.PART:
                self._take(message, raw)
            elif message["type"] == receiving.PUBLISH:
                self._publish()
                self._talk.send({"type": receiving.PUBLISHED, "path": self._published()})
            else:
                raise wire.WireError(f"an unknown request: {message['type']!r:.40}")

    def _published(self) -> str:
        return os.path.join(self._path, _FOLDER, self._name)

    def _is_here(self) -> bool:
        """Whether a whole checkpoint of this name with these arrays is published here."""
        if not os.path.isdir(self._published()) or os.path.islink(self._published()):
            return False
        try:
            manifest = self._while_alive(lambda: read_manifest(self._published()))
        except ValueError:
            return False
        return bool(manifest["files"][ARRAYS]["sha256"] == self._arrays)

    def _offsets(self) -> Dict[str, int]:
        """How much of each file is here from an earlier time."""
        offsets = {}
        for name, size in self._sizes.items():
            here = self._root.size(f"{self._coming}/{name}")
            if here > size:
                self._root.remove(f"{self._coming}/{name}")
                here = 0
            offsets[name] = here
        return offsets

    def _hash_of_manifest(self) -> str:
        with open(self._root.read(f"{self._coming}/{MANIFEST}"), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def _check_room(self) -> None:
        missing = sum(self._sizes.values()) - sum(self._root.size(f"{self._coming}/{name}") for name in self._sizes)
        found = os.statvfs(self._path)
        free = found.f_bavail * found.f_frsize
        if missing > free:
            raise RefusedError(f"{missing} bytes are needed in {self._path}, and {free} are free")

    def _take(self, message: wire.Message, raw: bytes) -> None:
        name, offset = message.get("file"), message.get("offset")
        if name not in self._sizes or not isinstance(offset, int):
            raise wire.WireError("a part of no file that was offered")
        path = f"{self._coming}/{name}"
        descriptor = self._root.write(path, os.O_CREAT | os.O_APPEND)
        try:
            if os.fstat(descriptor).st_size != offset or offset + len(raw) > self._sizes[name]:
                raise wire.WireError("a part that does not follow what is here")
            rest = memoryview(raw)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
        self._talk.send({"type": receiving.ACK, "bytes": len(raw)})

    def _publish(self) -> None:
        folder = os.path.join(self._path, self._coming)
        problems = self._while_alive(lambda: verify(folder))
        if not problems and self._hash_of_manifest() != self._manifest:
            problems = ["its manifest is not the one that was offered"]
        if problems:
            self._root.remove_tree(self._coming)
            raise RefusedError("; ".join(problems)[:1000])
        for name in self._sizes:
            descriptor = self._root.read(f"{self._coming}/{name}")
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._root.sync(self._coming)
        self._make_way()
        self._root.rename(self._coming, f"{_FOLDER}/{self._name}")
        self._root.sync(_FOLDER)
        self._root.remove_tree(f"{_FOLDER}/{_DOOMED}{self._name}")

    def _make_way(self) -> None:
        """A folder of this name that is not whole, or has other arrays, gives way to the one that was chosen."""
        doomed = f"{_FOLDER}/{_DOOMED}{self._name}"
        self._root.remove_tree(doomed)
        try:
            self._root.rename(f"{_FOLDER}/{self._name}", doomed)
        except FileNotFoundError:
            return

    def _drop_others(self) -> None:
        for found in self._root.names(_FOLDER):
            path = f"{_FOLDER}/{text(found)}"
            if found.startswith(_COMING.encode()) and path != self._coming:
                self._root.remove_tree(path)

    def _while_alive(self, act: Callable[[], T]) -> T:
        """What `act` returns; says now and then that we are there, for it may read many gigabytes."""
        done: List[T] = []
        errors: List[BaseException] = []

        def run() -> None:
            try:
                done.append(act())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while True:
            thread.join(receiving.ALIVE_S)
            if not thread.is_alive():
                break
            self._talk.send({"type": receiving.ALIVE})
        if errors:
            raise errors[0]
        return done[0]


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left there"
    return (getattr(error, "strerror", None) or str(error))[:1000]
