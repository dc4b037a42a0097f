"""What is to travel to hosts, found on this machine: the user's folder, named data, and the files of a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import NotFitError, UsageError
from launcher.spec.model import DatasetSpec, SyncSpec
from launcher.stage import select, tree
from launcher.stage.hashes import Hashes
from launcher.stage.travel import Tree
from launcher.stage.tree import Entry
from worker.contract.trees import DIR, FILE, LINK, Item

Tell = Callable[[str], None]
DEBIAN_FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
_IDX = re.compile(r"(train|t10k)-(images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?")


@dataclass(frozen=True)
class Data:
    """Data of this machine: the tree that travels, and the name in it by which it is known."""

    tree: Tree
    name: str

    def path(self, root: str) -> str:
        """Where it is, once its tree is at `root` on a host."""
        return f"{root}/{self.name}" if self.name else root


def sources(sync: SyncSpec, runs: Path, tell: Tell = lambda _: None) -> Tree:
    """The user's folder: what .gitignore files, `exclude` and the rules for secrets let through, and not `runs`.

    Blocks while files are read; those that have not changed since the last time are not. Raises UsageError: too big, a
    link leads out. Raises NotFitError: not readable.
    """
    root = Path(sync.source)
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder", hint="set `sync: {source: ...}` to the folder of your program")
    entries = select.selected(root, sync.exclude, runs)
    if sum(entry.size for entry in entries) > sync.max_bytes:
        raise select.too_big(root, entries, sync)
    return Tree(_hashed(root, entries, tell), root, shared=True)


def data(path: str, tell: Tell = lambda _: None) -> Data:
    """A file or a folder, whole, but for keys and secrets. Raises UsageError: there is no such thing, a link leads out.
    Raises NotFitError: not readable."""
    place = Path(path)
    if place.is_file():
        return _files(place.parent, [place.name], place.name, tell)
    if not place.is_dir():
        raise UsageError(
            f"the data {path} is neither a file nor a folder of this machine",
            hint="write `host:` before a path that is on the hosts already",
        )
    try:
        entries = select.selected(place, (), place, ignored=True)
    except UsageError as error:
        hint = "put a copy in the place of the link, or bring the data yourself and write `host:` before its path"
        raise UsageError(error.message, hint=hint) from error
    items = [Item(DIR, place.name, "", 0), *_hashed(place, entries, tell, prefix=f"{place.name}/")]
    return Data(Tree(items, place.parent, shared=False), place.name)


def dataset(spec: DatasetSpec, tell: Tell = lambda _: None) -> Data | None:
    """The files of a data set that are on this machine; None for a function's, and for what is not here.

    Raises UsageError if the spec names a path that is not there, NotFitError if it cannot be read.
    """
    if spec.kind == "npz" and spec.path is not None:
        return data(spec.path, tell)
    if spec.kind == "idx" and spec.path is not None:
        found = _idx_files(Path(spec.path))
        if not found:
            raise UsageError(f"{spec.path} holds no IDX files", hint="see docs/data.md for their names")
        return _files(Path(spec.path), found, "", tell)
    if spec.kind == "fashion-mnist-mini":
        import worker

        return data(str(Path(worker.__file__).parent / "train" / "data" / "fashion-mnist-mini.npz"), tell)
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    if spec.kind == "fashion-mnist":
        for folder in (Path(DEBIAN_FASHION_MNIST), cache / "fashion-mnist"):
            if len(found := _idx_files(folder)) >= 4:
                return _files(folder, found, "", tell)
    if spec.kind == "mnist" and (cache / "mnist.npz").is_file():
        return data(str(cache / "mnist.npz"), tell)
    return None


def _idx_files(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if _IDX.fullmatch(path.name) and path.is_file())
    except OSError:
        return []


def _files(folder: Path, names: Iterable[str], name: str, tell: Tell) -> Data:
    """Some files of a folder. A link to one travels as the file itself."""
    real = {each: Path(os.path.realpath(folder / each)) for each in names}
    items = []
    for each, path in real.items():
        if select.is_secret(each) or select.is_secret(path.name):
            raise UsageError(f"{path} may be a key or a secret: it does not travel", hint="give it another name")
        with tree.telling(path, "be read"):
            entry = tree.entry_at(path, path.name)
        if entry is None or entry.kind not in ("file", "program"):
            raise NotFitError(f"{path} is not a plain file", hint="name a file or a folder")
        hashes = Hashes(path, tell)
        items.append(Item(FILE, each, hashes.of("", entry.size), entry.size))
        hashes.save()
    return Data(Tree(items, folder, shared=False, paths=real), name)


def _hashed(root: Path, entries: Iterable[Entry], tell: Tell, prefix: str = "") -> list[Item]:
    hashes = Hashes(root, tell)
    items = []
    for entry in entries:
        content = entry.target if entry.kind == LINK else ""
        if entry.kind in ("file", "program"):
            content = hashes.of(entry.path, entry.size)
        items.append(Item(entry.kind, prefix + entry.path, content, entry.size))
    hashes.save()
    return items
