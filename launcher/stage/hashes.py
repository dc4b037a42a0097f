"""Hashes of this machine's files, remembered by what the file system says of them: an unchanged tree is not read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from launcher.stage import tree

_PIECE = 1 << 20
_FRESH_NS = 2_000_000_000  # a file that changed so lately may change again without another time stamp
_MOST = 1 << 26  # bytes of a cache that is still read

Stamp = list[int]


class Hashes:
    """The SHA-256 of the files below one folder. Nothing is lost if the cache cannot be read or written."""

    def __init__(self, root: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        self._root = root
        self._tell = tell
        self._file = _cache_folder() / hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
        self._known = _read(self._file)
        self._used: dict[str, tuple[Stamp, str]] = {}

    def of(self, path: str, size: int) -> str:
        """Of a file by its path below the root. Raises LauncherError that names it if it cannot be read."""
        whole = self._root / path
        with tree.telling(whole, "be read"):
            stamp = _stamp(whole.lstat())
            known = self._known.get(path)
            if known is not None and known[0] == stamp:
                self._used[path] = known
                return known[1]
            content = self._read_file(whole, path, size)
            # What was hashed is what the stamp stands for only if nothing moved meanwhile, nor just before.
            if _stamp(whole.lstat()) == stamp and max(stamp[1:3]) < time.time_ns() - _FRESH_NS:
                self._used[path] = (stamp, content)
        return content

    def save(self) -> None:
        """Keep what `of` was asked for since, and nothing else."""
        if self._used == self._known:
            return
        temporary = tree.temporary_name(self._file)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(self._used, separators=(",", ":")))
            temporary.replace(self._file)
        with contextlib.suppress(OSError):
            temporary.unlink()

    def _read_file(self, whole: Path, path: str, size: int) -> str:
        content = hashlib.sha256()
        done, told = 0, time.monotonic()
        with open(os.open(whole, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                content.update(piece)
                done += len(piece)
                if time.monotonic() - told > 1.0:
                    told = time.monotonic()
                    self._tell(f"reading {path}: {100 * done // max(1, size)} %")
        return content.hexdigest()


def _stamp(about: os.stat_result) -> Stamp:
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else Path.home() / ".cache") / "launcher" / "hashes"  # noqa: PTH117


def _read(file: Path) -> dict[str, tuple[Stamp, str]]:
    try:
        if file.stat().st_size > _MOST:
            return {}
        values = json.loads(file.read_text())
        return {path: (list(stamp), str(content)) for path, (stamp, content) in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
