"""`<workdir>/sources` and `<workdir>/data`: trees by their hash, brought once, given back what was changed in them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, List

from ..contract import trees as contract
from ..contract.trees import Item
from . import trees
from .room import Pulse, TroubleError, expect, locked, own_folder, send_long, troubling
from .talk import Talk
from .trees import Index

if TYPE_CHECKING:
    from .arrive import Incoming  # with hashes and all that: not for a tree that is here already

KINDS = ("sources", "data")
EARLIER = 4  # trees that are searched for contents that a new one has too
ROUNDS = 3  # in which damaged contents may be sent again


def stage(talk: Talk, workdir: str, kind: str, digest: str) -> str:
    """The folder of a tree, brought here and checked. Raises TroubleError, GoneError."""
    if kind not in KINDS or not digest.isalnum():
        raise TroubleError("order")
    folder = own_folder(workdir, kind)
    root = os.path.join(folder, digest)
    pulse = Pulse(talk)
    if is_whole(root, pulse):
        return root
    with locked(talk, workdir, f"{kind}-{digest}") as waited:
        if not (waited and is_whole(root, pulse)):
            _bring(talk, folder, root, digest, pulse)
    return root


def is_whole(root: str, tick: trees.Tick = trees.still) -> bool:
    """Whether a tree is there and nothing of it has changed. What programs have added to it does not count."""
    index = trees.read_index(root)
    if index is None or not os.path.isdir(root):
        return False
    wrong, stamps = trees.check(root, index, tick)
    if not wrong and stamps != index.stamps:
        with troubling(root):
            trees.write_index(root, Index(index.items, stamps))
    return not wrong


def _bring(talk: Talk, folder: str, root: str, digest: str, pulse: Pulse) -> None:
    from .arrive import Incoming

    items = _listing(talk, digest)
    there = os.path.isdir(root)
    known = trees.read_index(root)
    wrong = trees.check(root, Index(items, known.stamps if known else {}), pulse)[0] if there else items
    incoming = _receive(talk, folder, root, Incoming(_incoming(root), items, wrong, pulse))
    with troubling(root):
        if there:
            trees.repair(root, wrong, incoming.contents, incoming.movable, pulse)
        else:
            _make(root, items, incoming, pulse)
        trees.write_index(root, Index(items, trees.stamps_of(root, items)))
    trees.remove(os.fsencode(_incoming(root)))


def _make(root: str, items: List[Item], incoming: Incoming, pulse: Pulse) -> None:
    """The tree appears whole, by one rename."""
    temporary = f"{_incoming(root)}.{os.urandom(4).hex()}.tmp"
    try:
        trees.make(temporary, items, incoming.contents, incoming.movable, pulse)
        os.rename(temporary, root)
    finally:
        trees.remove(os.fsencode(temporary))


def _listing(talk: Talk, digest: str) -> List[Item]:
    talk.send({"type": "listing?"})
    packed = bytearray()
    while True:
        message, raw = expect(talk, "listing")
        packed += raw
        if len(packed) > contract.MAX_LISTING:
            raise TroubleError("order")
        if message.get("last"):
            break
    try:
        items = contract.unpacked(bytes(packed))
    except (ValueError, TypeError) as error:
        raise TroubleError("order", why=str(error)) from error
    if contract.digest(items) != digest:
        raise TroubleError("order", why="the listing is not what its hash says")
    return items


def _receive(talk: Talk, folder: str, root: str, incoming: Incoming) -> Incoming:
    for earlier in _earlier(folder, root):
        index = trees.read_index(earlier)
        if index is not None:
            incoming.take_from(earlier, index)
    for _ in range(ROUNDS):
        lacks = incoming.lacks()
        send_long(talk, "lacks", contract.packed_lacks(lacks))
        if not lacks:
            return incoming
        incoming.receive(talk, lacks)
    if incoming.lacks():
        raise TroubleError("damaged", path=root)
    return incoming


def _earlier(folder: str, root: str) -> List[str]:
    """The trees that were brought last, this one before all others."""
    found = []
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(".index"):
            path = os.path.join(folder, name)
            found.append((os.lstat(path).st_mtime, os.path.join(folder, name[1 : -len(".index")])))
    trees_here = [path for _, path in sorted(found, reverse=True)]
    return ([root] if os.path.isdir(root) else []) + [path for path in trees_here if path != root][:EARLIER]


def _incoming(root: str) -> str:
    folder, name = os.path.split(root)
    return os.path.join(folder, f".{name}.incoming")
