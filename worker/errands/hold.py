"""Holding a published checkpoint while it is fetched: pruning removes its name, never the bytes under way.

Its files are linked once more into a hidden folder beside it, so a hold outlives a cut connection, and are opened at
once, for file systems that have no hard links. There is one hold at a time: the disk has to bear one checkpoint more.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any, Dict, List

from ..contract.inside import Inside, text
from ..contract.layout import AT_HOME_MARK, parse_checkpoint_name

_FOLDER = "checkpoints"
_PREFIX = ".held-"
_MOST_FILES = 100


def mark_home(root: Inside, name: str) -> None:
    """Leave a mark beside a published checkpoint: the agent may prune it. Quietly nothing if there is no such one."""
    if parse_checkpoint_name(name) is None:
        return
    with contextlib.suppress(OSError):
        root.stat(f"{_FOLDER}/{name}")
        os.close(root.write(f"{_FOLDER}/{AT_HOME_MARK}{name}", os.O_CREAT))


class Held:
    """At most one held checkpoint of a host folder."""

    def __init__(self, root: Inside) -> None:
        self._root = root
        self.folder = ""  # where `get` finds the files
        self.opened: Dict[str, int] = {}  # by path

    def take(self, name: str) -> List[List[Any]]:
        """Hold a checkpoint and let go of any other; its files as [name, bytes]. Raises OSError when it is gone."""
        if parse_checkpoint_name(name) is None:
            raise ValueError("not the name of a checkpoint")
        self._close()
        self._remove_others(name)
        held = f"{_FOLDER}/{_PREFIX}{name}"
        with contextlib.suppress(OSError):  # an earlier connection's hold, perhaps of what has been pruned since
            files = self._open_all(held)
            if "manifest.json" in files:
                return self._holding(held, files)
        published = f"{_FOLDER}/{name}"
        files = self._open_all(published)
        if self._link_all(published, held, files):
            return self._holding(held, files)
        return self._holding(published, files)

    def release(self) -> None:
        """Let go of it. May be called twice."""
        self._close()
        self._remove_others("")

    def _holding(self, folder: str, files: Dict[str, int]) -> List[List[Any]]:
        self.folder = folder
        self.opened = {f"{folder}/{name}": descriptor for name, descriptor in files.items()}
        return [[name, os.fstat(files[name]).st_size] for name in sorted(files)]

    def _open_all(self, folder: str) -> Dict[str, int]:
        files: Dict[str, int] = {}
        try:
            if not stat.S_ISDIR(self._root.stat(folder).st_mode):
                raise OSError(0, "not a folder")
            for name in sorted(os.listdir(self._root.folder(folder)))[:_MOST_FILES]:
                path = text(os.fsencode(name))
                files[path] = self._root.read(f"{folder}/{path}")
        except OSError:
            for descriptor in files.values():
                os.close(descriptor)
            raise
        return files

    def _link_all(self, source: str, target: str, files: Dict[str, int]) -> bool:
        """Whether every file has a second name now. The manifest comes last: a hold without one is none."""
        try:
            self._root.remove_tree(target)
            to = os.dup(self._root.folder(target, make=True))
        except OSError:
            return False
        try:
            from_ = self._root.folder(source)
            for name in sorted(files, key=lambda name: name == "manifest.json"):
                os.link(os.fsencode(name), os.fsencode(name), src_dir_fd=from_, dst_dir_fd=to, follow_symlinks=False)
                linked = os.stat(os.fsencode(name), dir_fd=to, follow_symlinks=False)
                if linked.st_ino != os.fstat(files[name]).st_ino:
                    raise OSError(0, "replaced meanwhile")
        except OSError:
            self._root.remove_tree(target)
            return False
        finally:
            os.close(to)
        return True

    def _remove_others(self, name: str) -> None:
        for found in self._root.names(_FOLDER):
            if found.startswith(_PREFIX.encode()) and found != (_PREFIX + name).encode():
                self._root.remove_tree(f"{_FOLDER}/{text(found)}")

    def _close(self) -> None:
        while self.opened:
            os.close(self.opened.popitem()[1])
        self.folder = ""
