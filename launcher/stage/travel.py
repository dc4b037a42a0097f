"""A folder of this machine as it travels to hosts: listed, hashed and deflated once, however many hosts there are."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.errors import NotFitError
from launcher.stage import tree
from worker.contract import trees
from worker.contract.trees import Item, Lack

PIECE = 1 << 20
Piece = tuple[bool, bytes]  # whether it is deflated


class Tree:
    """What travels: its listing, the hash that names it, and its bytes. May be used by many threads.

    A file is read from below `root`, or from where `paths` says. With `shared`, pieces are deflated, and made once for
    all hosts that lack the same; without, they are read for each host, as large data are.
    """

    def __init__(
        self, items: Iterable[Item], root: Path, *, shared: bool, paths: Mapping[str, Path] | None = None
    ) -> None:
        self.items = trees.ordered(items)
        self.digest = trees.digest(self.items)
        self.size = sum(item.size for item in self.items)
        self._root = root
        self._paths = paths or {}
        self._shared = shared
        self._lock = threading.Lock()
        self._parcels: dict[bytes, _Parcel] = {}

    def as_json(self) -> dict[str, Any]:
        """Which tree this is, for `again`: its listing and where its bytes are; not the bytes."""
        return {
            "listing": base64.b64encode(self.listing).decode("ascii"),
            "root": str(self._root),
            "paths": {path: str(place) for path, place in self._paths.items()},
            "shared": self._shared,
        }

    @classmethod
    def again(cls, kept: Mapping[str, Any]) -> Tree:
        """The tree that `as_json` told of, as it was then: a file that was changed since is refused when it is read.

        Raises KeyError, TypeError or ValueError for anything else.
        """
        items = trees.unpacked(base64.b64decode(kept["listing"]))
        paths = {str(path): Path(place) for path, place in kept["paths"].items()}
        return cls(items, Path(kept["root"]), shared=bool(kept["shared"]), paths=paths)

    @functools.cached_property
    def listing(self) -> bytes:
        return trees.packed(self.items)

    def lacks(self, data: bytes) -> list[Lack]:
        """What a host asks for. Raises ValueError for what is not in the tree."""
        return trees.unpacked_lacks(data, self.items)

    def pieces(self, lacks: Sequence[Lack]) -> Iterator[Piece]:
        """What a host asks for, in pieces of at most 1 MiB. Raises NotFitError if a file is not what it was."""
        if not self._shared:
            yield from ((False, piece) for piece in self._cut(lacks))
            return
        with self._lock:
            key = hashlib.sha256(repr(lacks).encode()).digest()
            if key not in self._parcels:
                self._parcels[key] = _Parcel(self._cut(lacks))
            parcel = self._parcels[key]
        yield from parcel.pieces()

    def read(self, item: Item) -> bytes:
        """All of a file of the listing. Raises NotFitError if it is not what it was."""
        return b"".join(self._read(item, 0))

    def _cut(self, lacks: Sequence[Lack]) -> Iterator[bytes]:
        piece = bytearray()
        for lack in lacks:
            for data in self._read(self.items[lack.item], lack.have):
                piece += data
                while len(piece) >= PIECE:
                    yield bytes(piece[:PIECE])
                    del piece[:PIECE]
        if piece:
            yield bytes(piece)

    def _read(self, item: Item, have: int) -> Iterator[bytes]:
        path = self._paths.get(item.path, self._root / item.path)
        content = hashlib.sha256()
        left = item.size - have
        with tree.telling(path, "be read"):
            file = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0)  # noqa: SIM115
        with file:
            while left:
                with tree.telling(path, "be read"):
                    data = os.pread(file.fileno(), min(PIECE, left), item.size - left)
                if not data:
                    raise _changed(path)
                content.update(data)
                left -= len(data)
                yield data
        if not have and content.hexdigest() != item.content:
            raise _changed(path)


class _Parcel:
    """Pieces that are made once, by a thread of their own, and read by many."""

    def __init__(self, raw: Iterator[bytes]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the parcel
        self._spans: list[tuple[bool, int, int]] = []
        self._error: Exception | None = None
        self._done = False
        self._grown = threading.Condition()
        threading.Thread(target=self._make, args=(raw,), name="parcel", daemon=True).start()

    def pieces(self) -> Iterator[Piece]:
        for number in self._numbers():
            deflated, at, length = self._spans[number]
            yield deflated, os.pread(self._file.fileno(), length, at)

    def _numbers(self) -> Iterator[int]:
        number = 0
        while True:
            with self._grown:
                self._grown.wait_for(lambda: number < len(self._spans) or self._done)  # noqa: B023 - called here only
                if number >= len(self._spans):
                    if self._error is not None:
                        raise self._error
                    return
            yield number
            number += 1

    def _make(self, raw: Iterator[bytes]) -> None:
        at = 0
        try:
            for piece in raw:
                deflated, data = squeezed(piece)
                with tree.telling(Path(tempfile.gettempdir()), "be written"):
                    tree.write(self._file.write, data)
                    self._file.flush()
                with self._grown:
                    self._spans.append((deflated, at, len(data)))
                    self._grown.notify_all()
                at += len(data)
        except Exception as error:  # raised again in every thread that reads
            self._error = error
        finally:
            with self._grown:
                self._done = True
                self._grown.notify_all()


def squeezed(piece: bytes) -> Piece:
    """Deflated, if that is worth it."""
    small = zlib.compress(piece, 1)
    return (True, small) if len(small) < 0.95 * len(piece) else (False, piece)


def _changed(path: Path) -> NotFitError:
    return NotFitError(
        f"{path} has changed while it was being sent",
        hint="run the command again when nothing writes to it, or leave it out with `sync: {exclude: [...]}`",
    )
