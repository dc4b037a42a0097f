"""A data set that a zygote has read before it forks: all its workers share the pages, and none waits for the reading.

It counts only as long as the files on the disk are those that it was read from. No TensorFlow here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..contract import names
from . import datasets

MOST_BYTES = 1 << 30  # of the files; the tables of more pages would have to be copied at each fork

_Seen = tuple[tuple[str, int, int, int, int], ...]  # path, device, inode, size, time of the last change


@dataclass(frozen=True)
class Stock:
    """What was read, how it was named, and a digest of all of it."""

    kind: str
    path: str | None
    seen: _Seen
    arrays: datasets.Arrays
    digest: str

    def serves(self, kind: str, path: str | None) -> bool:
        """Whether reading this data set now would give the same."""
        return (self.kind, self.path) == (kind, path) and _look(kind, path) == self.seen


def lay_in(env: Mapping[str, str]) -> Stock | None:
    """Read the data set that LAUNCHER_TRAIN names. None if that must be left to the workers, faults included."""
    try:
        dataset = json.loads(env[names.TRAIN])["dataset"]
        kind, path = str(dataset["kind"]), dataset.get("path")
        seen = _look(kind, path)
        if seen is None or sum(size for _, _, _, size, _ in seen) > MOST_BYTES:
            return None
        arrays = datasets.load(kind, path)
        stock = Stock(kind, path, seen, arrays, datasets.digest(arrays))
    except (datasets.DataError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return stock if stock.serves(kind, path) else None  # it may have changed while it was read


def _look(kind: str, path: str | None) -> _Seen | None:
    try:
        files = datasets.files(kind, path)
        if files is None:
            return None
        found = [(file, os.stat(file)) for file in files]
    except (datasets.DataError, OSError, ValueError):
        return None
    return tuple((file, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for file, s in found)
