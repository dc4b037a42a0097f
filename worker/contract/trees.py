"""A folder as a value: its entries, the one hash that names them, and the form in which they travel."""

from __future__ import annotations

import json
import zlib
from typing import Any, Iterable, List, NamedTuple

DIR, FILE, PROGRAM, LINK = "dir", "file", "program", "link"
KINDS = (DIR, FILE, PROGRAM, LINK)
MAX_LISTING = 1 << 28  # bytes of JSON: some million entries

# Conversation of the errand `stage` about a tree, after `stage {kind, digest}`:
#   host → coordinator   here {path} if nothing is to be done, else `listing?`
#   coordinator → host   listing: one or more frames, the last with `last`; their bytes together are `packed`
#   host → coordinator   lacks: bytes as `packed_lacks`; perhaps none
#   coordinator → host   piece {z}: the contents that lack, one behind the other, cut anywhere; with `z` deflated
#   host → coordinator   here {path}; or lacks again, for what arrived damaged
# Whenever the host has to wait for somebody else it says `waiting {what}` every few seconds.


class Item(NamedTuple):
    """One thing in a tree. `content` is the SHA-256 of a file's bytes, or where a link points; of a folder, empty."""

    kind: str
    path: str  # relative, `/` between its parts; bytes that are no UTF-8 as surrogates
    content: str
    size: int

    @property
    def is_file(self) -> bool:
        return self.kind in (FILE, PROGRAM)


class Lack(NamedTuple):
    """A content that a host has only the first `have` bytes of; `item` is a place in the listing that has it."""

    item: int
    have: int


def name_bytes(path: str) -> bytes:
    """A path as it is in a file system, whatever the locale says."""
    return path.encode("utf-8", "surrogateescape")


def ordered(items: Iterable[Item]) -> List[Item]:
    """In the order of a listing: a folder before what is in it."""
    return sorted(items, key=lambda item: name_bytes(item.path))


def digest(items: Iterable[Item]) -> str:
    """One hash over names, kinds and contents."""
    import hashlib  # with OpenSSL: a look at what is there already needs no hash

    whole = hashlib.sha256()
    for item in ordered(items):
        content = item.content
        if item.kind == LINK:
            content = hashlib.sha256(name_bytes(content)).hexdigest()
        whole.update(b"\0".join((item.kind.encode(), name_bytes(item.path), content.encode())) + b"\n")
    return whole.hexdigest()[:32]


def packed(items: Iterable[Item]) -> bytes:
    return zlib.compress(json.dumps([list(item) for item in items], separators=(",", ":")).encode("ascii"), 1)


def unpacked(data: bytes) -> List[Item]:
    """Raises ValueError for anything but a listing of plain relative paths, each in a folder that is listed."""
    items = []
    folders = {""}
    for kind, path, content, size in _parsed(data):
        item = Item(str(kind), str(path), str(content), int(size))
        parent, _, name = item.path.rpartition("/")
        if item.path != (f"{parent}/{name}" if parent else name) or "\0" in item.path:
            raise ValueError(f"{item.path!r} cannot be in a tree")
        if item.kind not in KINDS or parent not in folders or name in ("", ".", ".."):
            raise ValueError(f"{item.path!r} cannot be in a tree")
        if item.is_file and not (len(item.content) == 64 and item.content.isalnum() and item.size >= 0):
            raise ValueError(f"{item.path!r} has no hash")
        if item.kind == DIR:
            folders.add(item.path)
        items.append(item)
    if len({item.path for item in items}) != len(items):
        raise ValueError("one path twice")
    return items


def packed_lacks(lacks: Iterable[Lack]) -> bytes:
    return zlib.compress(json.dumps([list(lack) for lack in lacks], separators=(",", ":")).encode("ascii"), 1)


def unpacked_lacks(data: bytes, items: List[Item]) -> List[Lack]:
    """Raises ValueError for what does not fit the listing."""
    lacks = [Lack(int(item), int(have)) for item, have in _parsed(data)]
    for lack in lacks:
        if not 0 <= lack.item < len(items) or not items[lack.item].is_file:
            raise ValueError("a lack of what is not listed")
        if not 0 <= lack.have <= items[lack.item].size:
            raise ValueError("more of a file than there is")
    return lacks


def _parsed(data: bytes) -> List[List[Any]]:
    unzip = zlib.decompressobj()
    try:
        text = unzip.decompress(data, MAX_LISTING)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if unzip.unconsumed_tail:
        raise ValueError("too long a list")
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError("not a list")
    return rows
