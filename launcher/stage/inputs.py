"""What a host's `setup:` depends on: run again when it changes, and not before.

It counts: the commands themselves, `activate`, `python`, and the content of everything in the synced folder that a
command names: a file, a folder with all that is in it (`.` is the whole), what a pattern matches; and what a file of
requirements that is named includes by `-r` or `-c`.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from launcher.stage.travel import Tree
from worker.contract.trees import LINK, Item

_INCLUDE = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)")
_MOST = 1 << 20  # bytes of a file that is searched for includes


def setup_inputs(commands: Sequence[str], activate: str | None, python: str | None, tree: Tree | None) -> str:
    """The hash of all that counts. Raises NotFitError if a file of requirements cannot be read."""
    counted = _named(commands, tree) if tree is not None else {}
    told = [list(commands), activate, python, sorted((i.path, i.kind, i.content) for i in counted.values())]
    return hashlib.sha256(json.dumps(told).encode("ascii")).hexdigest()


def _named(commands: Sequence[str], tree: Tree) -> Mapping[str, Item]:
    """What of a tree the commands name, by its path."""
    found: dict[str, Item] = {}
    waiting = [(word, "") for command in commands for word in _words(command)]
    seen = set(waiting)
    while waiting:
        word, base = waiting.pop()
        for item in _matches(word, base, tree.items):
            if item.path in found:
                continue
            found[item.path] = item
            more = {(name, posixpath.dirname(item.path)) for name in _includes(tree, item)} - seen
            seen |= more
            waiting += sorted(more)
    return found


def _words(command: str) -> Iterator[str]:
    """All that may be a path in a command: its words, also behind `=` or an option's letter, without `[extras]`."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for word in words:
        for part in re.split(r"[=;&|()<>]", word):
            for each in (part, part[2:] if re.match(r"-\w", part) else ""):
                plain = re.sub(r"(?<=.)\[[\w,.-]*\]$", "", each)
                yield from (text for text in {each, plain} if text)


def _matches(word: str, base: str, items: Iterable[Item]) -> Iterator[Item]:
    path = posixpath.normpath(posixpath.join(base, word))
    if path.startswith(("/", "..")):
        return
    by_pattern = any(c in path for c in "*?[")
    for item in items:
        inside = path == "." or item.path == path or item.path.startswith(path + "/")
        if inside or (by_pattern and fnmatchcase(item.path, path)):
            yield item
            if item.kind == LINK and path != ".":
                target = posixpath.normpath(posixpath.join(posixpath.dirname(item.path), item.content))
                yield from (i for i in items if i.path == target or i.path.startswith(target + "/"))


def _includes(tree: Tree, item: Item) -> Iterator[str]:
    """What a file of requirements includes."""
    name = posixpath.basename(item.path)
    if item.is_file and item.size <= _MOST and name.endswith((".txt", ".in")):
        for line in tree.read(item).decode("utf-8", "replace").splitlines():
            if include := _INCLUDE.match(line):
                yield include[1]
