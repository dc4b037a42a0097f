"""Files below a folder, never reached through a link: each step of a path is opened by itself.

Both sides use it: on a host nothing outside the run's folder is read, at home nothing outside the mirror is written.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections import OrderedDict
from typing import List, Tuple

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 8
MOST_DEPTH = 24
_MOST_NAME = 255
_MOST_PATH = 3000

Steps = Tuple[bytes, ...]


@functools.lru_cache(maxsize=1024)
def steps(path: str) -> Steps:
    """The names along a relative path, as bytes. Raises ValueError for a path that no honest side would send."""
    data = path.encode("utf-8", "surrogateescape")  # UnicodeEncodeError is a ValueError
    names = tuple(data.split(b"/"))
    if len(data) > _MOST_PATH or len(names) > MOST_DEPTH:
        raise ValueError("a path that is too long or too deep")
    for name in names:
        if name in (b"", b".", b"..") or b"\0" in name or len(name) > _MOST_NAME:
            raise ValueError(f"a path with a strange step: {path!r:.200}")
    return names


def text(name: bytes) -> str:
    """A file name as a string that `steps` turns back into the same bytes, whatever the locale."""
    return name.decode("utf-8", "surrogateescape")


class Inside:
    """A folder of ours. Every path is relative to it; for one thread. Every method raises OSError, or ValueError for a
    path that `steps` refuses."""

    def __init__(self, path: str, make: bool = False) -> None:
        if make:
            os.makedirs(path, 0o700, exist_ok=True)
        self.path = path
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: "OrderedDict[Steps, int]" = OrderedDict()

    def close(self) -> None:
        """May be called twice."""
        self.forget()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def refresh(self) -> None:
        """Look every folder up again: somebody else may have moved them. Raises FileNotFoundError if ours is gone."""
        self.forget()
        if not os.fstat(self._root).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", self.path)

    def forget(self) -> None:
        """Look every folder up again at its next use."""
        while self._open:
            os.close(self._open.popitem()[1])

    def read(self, path: str) -> int:
        """A descriptor of a regular file for reading; never waits for a pipe's writer."""
        descriptor = self._opened(path, os.O_RDONLY | os.O_NONBLOCK, make=False)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a plain file")
        return descriptor

    def write(self, path: str, flags: int) -> int:
        """A descriptor of a regular file for writing, `flags` besides O_WRONLY; folders on the way are made."""
        descriptor = self._opened(path, os.O_WRONLY | os.O_NONBLOCK | flags, make=True)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a plain file")
        return descriptor

    def stat(self, path: str) -> os.stat_result:
        """Of the entry itself, be it a link."""
        *before, name = steps(path)
        try:
            return os.stat(name, dir_fd=self._folder(tuple(before)), follow_symlinks=False)
        except FileNotFoundError:
            self.forget()  # the folder may have been replaced since it was opened
            return os.stat(name, dir_fd=self._folder(tuple(before)), follow_symlinks=False)

    def size(self, path: str) -> int:
        """The size of a regular file, 0 if there is none."""
        try:
            found = self.stat(path)
        except OSError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def names(self, path: str = "") -> List[bytes]:
        """What is in a folder; nothing if there is none."""
        try:
            return [os.fsencode(name) for name in os.listdir(self.folder(path))]
        except OSError:
            self.forget()
            return []

    def folder(self, path: str = "", make: bool = False) -> int:
        """The descriptor of a folder; it stays ours."""
        return self._folder(steps(path) if path else (), make)

    def rename(self, old: str, new: str) -> None:
        """Move an entry; folders on the way to `new` are made."""
        *from_, old_name = steps(old)
        *to, new_name = steps(new)
        self._folder(tuple(to), make=True)
        source = os.dup(self._folder(tuple(from_)))  # the second look-up may close the first one's descriptor
        try:
            os.rename(old_name, new_name, src_dir_fd=source, dst_dir_fd=self._folder(tuple(to), make=True))
        finally:
            os.close(source)
        for moved in (steps(old), steps(new)):
            for names in [names for names in self._open if names[: len(moved)] == moved]:
                os.close(self._open.pop(names))

    def remove(self, path: str) -> None:
        """Remove a file; quietly if there is none."""
        *before, name = steps(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder(tuple(before)))

    def remove_tree(self, path: str) -> None:
        """Remove a folder and what is in it, or a file, as far as that goes; a link is removed, never followed."""
        import shutil

        whole = os.path.join(self.path, path)
        with contextlib.suppress(OSError):
            if not stat.S_ISDIR(self.stat(path).st_mode):
                self.remove(path)
                return
            shutil.rmtree(whole, ignore_errors=True)
        self.forget()

    def sync(self, path: str = "") -> None:
        """Bring a folder's entries to the disk."""
        os.fsync(self.folder(path))

    def _opened(self, path: str, flags: int, make: bool) -> int:
        *before, name = steps(path)
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(name, flags, 0o600, dir_fd=self._folder(tuple(before), make))
        except FileNotFoundError:
            self.forget()
            return os.open(name, flags, 0o600, dir_fd=self._folder(tuple(before), make))

    def _folder(self, names: Steps, make: bool = False) -> int:
        if not names:
            return self._root
        found = self._open.get(names)
        if found is not None:
            self._open.move_to_end(names)
            return found
        parent = self._folder(names[:-1], make)
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(names[-1], 0o700, dir_fd=parent)
        descriptor = os.open(names[-1], _FOLDER, dir_fd=parent)
        self._open[names] = descriptor
        while len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return descriptor
