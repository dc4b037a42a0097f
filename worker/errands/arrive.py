"""Contents on their way into a tree: each under its hash, checked as it arrives, and kept when the connection is cut.

`<folder>/<hash>` is whole; `<folder>/<hash>.part` is its beginning.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import Dict, Iterator, List, Set

from ..contract import wire
from ..contract.trees import Item, Lack, name_bytes
from . import trees
from .room import TroubleError, expect, troubling
from .talk import Talk
from .trees import PIECE, Index

EMPTY = hashlib.sha256().hexdigest()


class Incoming:
    """The contents that a tree still needs. All methods raise TroubleError for what the disk does not let us do."""

    def __init__(self, folder: str, items: List[Item], needed: List[Item], tick: trees.Tick) -> None:
        self._folder = os.fsencode(folder)
        with troubling(folder):
            os.makedirs(folder, 0o700, exist_ok=True)
        self._places: Dict[str, int] = {}  # of the listing that has a content that is needed
        wanted = {item.content for item in needed if item.is_file}
        for place, item in enumerate(items):
            if item.is_file and item.content in wanted:
                self._places.setdefault(item.content, place)
        self._items = items
        self._found: Dict[str, bytes] = {}  # contents that a tree of this host has: where
        self._tick = tick

    @property
    def contents(self) -> Dict[str, bytes]:
        """Where each content is to be found."""
        return {content: self._found.get(content, self._path(content)) for content in self._places}

    @property
    def movable(self) -> Set[str]:
        """The contents that are here for this tree alone."""
        return self._places.keys() - self._found.keys()

    def take_from(self, root: str, index: Index) -> None:
        """Note what a tree that is here already has, and has not changed: it is copied from there."""
        base = os.fsencode(root)
        for item in index.items:
            if item.is_file and item.content in self._places and item.content not in self._found:
                path = os.path.join(base, name_bytes(item.path))
                try:
                    if trees.stamp(os.lstat(path)) == index.stamps.get(item.path):
                        self._found[item.content] = path
                except OSError:
                    continue  # then it is sent

    def lacks(self) -> List[Lack]:
        """What has to be sent. Raises TroubleError if there is not room enough for it."""
        found = []
        for content, place in self._places.items():
            if content in self._found:
                continue
            have = self._have(content, self._items[place].size)
            if have is not None:
                found.append(Lack(place, have))
        missing = sum(self._items[lack.item].size - lack.have for lack in found)
        with troubling(self._folder):
            disk = os.statvfs(self._folder)
        if missing > disk.f_bavail * disk.f_frsize:
            raise TroubleError(
                "room", path=os.fsdecode(self._folder), needs=missing, free=disk.f_bavail * disk.f_frsize
            )
        return found

    def _have(self, content: str, size: int) -> "int | None":
        """How many bytes of it are here; None if it is whole."""
        path = self._path(content)
        with troubling(path):
            if os.path.lexists(path):
                if os.lstat(path).st_size == size:
                    return None
                os.unlink(path)  # a power cut may have shortened it
            if size == 0 and content == EMPTY:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
                return None
            try:
                have = os.lstat(path + b".part").st_size
            except FileNotFoundError:
                return 0
            if have < size:
                return have
            if have == size and trees.hash_of(path + b".part", self._tick) == content:
                os.rename(path + b".part", path)
                return None
            os.unlink(path + b".part")
            return 0

    def receive(self, talk: Talk, lacks: List[Lack]) -> None:
        """Take all that was asked for; what is damaged is thrown away and lacks again. Raises GoneError."""
        stream = _Stream(talk)
        for lack in lacks:
            item = self._items[lack.item]
            path = self._path(item.content)
            with troubling(path):
                self._receive_one(stream, path, item, lack.have)

    def _receive_one(self, stream: "_Stream", path: bytes, item: Item, have: int) -> None:
        content = hashlib.sha256()
        part = path + b".part"
        with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b", 0) as file:
            file.truncate(have)
            while file.tell() < have:
                content.update(file.read(min(PIECE, have - file.tell())))
                self._tick()
            left = item.size - have
            while left:
                piece = stream.take(left)
                content.update(piece)
                trees.write_all(file, piece)
                left -= len(piece)
            if item.size >= PIECE:
                os.fsync(file.fileno())
        if content.hexdigest() == item.content:
            os.rename(part, path)
        else:
            os.unlink(part)

    def _path(self, content: str) -> bytes:
        return os.path.join(self._folder, content.encode("ascii"))


class _Stream:
    """The bytes of `piece` frames, one behind the other."""

    def __init__(self, talk: Talk) -> None:
        self._pieces = _pieces(talk)
        self._rest = b""

    def take(self, most: int) -> bytes:
        """Some bytes, at least one."""
        if not self._rest:
            self._rest = next(self._pieces)
        if len(self._rest) <= most:
            taken, self._rest = self._rest, b""
        else:
            taken, self._rest = self._rest[:most], self._rest[most:]
        return taken


def _pieces(talk: Talk) -> Iterator[bytes]:
    while True:
        message, raw = expect(talk, "piece")
        if message.get("z"):
            unzip = zlib.decompressobj()
            try:
                raw = unzip.decompress(raw, PIECE)
            except zlib.error as error:
                raise wire.WireError(f"a piece that cannot be inflated: {error}") from error
            if unzip.unconsumed_tail:
                raise wire.WireError("a piece that inflates to too much")
        if raw:
            yield raw
