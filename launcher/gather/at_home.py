"""The checkpoints of one host that are at home, and the one that is coming: resumed, verified, then renamed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from launcher.gather.arrivals import Want
from launcher.gather.asking import Pull
from launcher.gather.checked import End, NonsenseError
from launcher.gather.disk import COMING, Disk
from launcher.gather.which import is_checkpoint, rank, to_prune
from worker.contract.checkpoints import verify
from worker.contract.inside import text

_PUBLISHED = "checkpoints"
_DOOMED = "doomed-"
_RESERVE = 64 << 20  # what a checkpoint leaves of the disk, so that logs go on
_MOST_MISSED = 3
_MOST_BYTES = 1 << 44

Progress = Callable[[str, int, int, int], None]


class RefusedError(Exception):
    """What came is no whole checkpoint, and was not cut short either."""


class NoRoomError(Exception):
    """The disk at home has no room for it just now."""


class AtHome:
    """The checkpoints of one host that are at home, and the one that is coming. For one thread."""

    def __init__(self, disk: Disk, progress: Progress | None = None) -> None:
        self.disk = disk
        self._progress = progress
        self.refused: set[str] = set()
        self._missed: dict[str, int] = {}
        for name in disk.inside.names(COMING):
            if text(name).startswith(_DOOMED):
                disk.inside.remove_tree(f"{COMING}/{text(name)}")

    def names(self) -> list[str]:
        """Those that are whole."""
        return [text(name) for name in self.disk.inside.names(_PUBLISHED) if is_checkpoint(text(name))]

    def begun(self) -> str:
        """The one that is partly here, or ""."""
        found = [text(name) for name in self.disk.inside.names(COMING) if is_checkpoint(text(name))]
        return max(found, key=rank, default="")

    def bring(self, pull: Pull, name: str) -> bool:
        """Bring one; False when it is gone from the host. Raises RefusedError, NoRoomError, and what Pull raises."""
        self._drop_others(name)
        resumed = bool(self.disk.inside.names(f"{COMING}/{name}"))
        if not self._transfer(pull, name):
            self.disk.inside.remove_tree(f"{COMING}/{name}")
            return False
        problems = verify(f"{self.disk.path}/{COMING}/{name}")
        if problems and resumed:
            # What was here from before the cut may be at fault: once more, all of it.
            self.disk.inside.remove_tree(f"{COMING}/{name}")
            return self.bring(pull, name)
        if problems:
            self.disk.inside.remove_tree(f"{COMING}/{name}")
            self.refused.add(name)
            raise RefusedError("; ".join(problems).replace(f"{self.disk.path}/{COMING}/", "")[:500])
        self._publish(name)
        pull.release()
        return True

    def missed(self, name: str) -> None:
        """It was listed, and could not be had. Nothing else is kept waiting for it for ever."""
        self._missed[name] = self._missed.get(name, 0) + 1
        if self._missed[name] >= _MOST_MISSED:
            self.refused.add(name)

    def drop(self, name: str) -> None:
        """Forget what is here of one that is coming."""
        self.disk.inside.remove_tree(f"{COMING}/{name}")

    def prune(self, keep: int | None, known: Collection[str] = ()) -> None:
        """Let only the newest `keep` stay, of these and those `known` to be at home."""
        mine = self.names()
        for name in to_prune({*mine, *known}, keep):
            if name not in mine:
                continue
            self.disk.inside.rename(f"{_PUBLISHED}/{name}", f"{COMING}/{_DOOMED}{name}")
            self.disk.inside.remove_tree(f"{COMING}/{_DOOMED}{name}")

    def _transfer(self, pull: Pull, name: str) -> bool:
        held = pull.hold(name)
        if held is None:
            return False
        folder, sizes = held
        if folder not in (f"{_PUBLISHED}/{name}", f"{_PUBLISHED}/.held-{name}") or sum(sizes.values()) > _MOST_BYTES:
            raise NonsenseError("a checkpoint where none can be, or of a size that none has")
        inside = self.disk.inside
        coming = f"{COMING}/{name}"
        for file in inside.names(coming):
            if text(file) not in sizes or inside.size(f"{coming}/{text(file)}") > sizes[text(file)]:
                inside.remove_tree(f"{coming}/{text(file)}")
        offsets = {file: inside.size(f"{coming}/{file}") for file in sizes}
        missing = sum(sizes.values()) - sum(offsets.values())
        if missing + _RESERVE > self.disk.free_bytes():
            raise NoRoomError(f"{missing} bytes of checkpoint {name} are to come")
        # The manifest comes last: a folder with one is all there.
        files = sorted(sizes, key=lambda file: (file == "manifest.json", file))
        inside.folder(coming, make=True)
        wants = [
            Want(f"{folder}/{file}", offsets[file], self.disk.tail(f"{coming}/{file}", offsets[file]))
            if offsets[file]
            else Want(f"{folder}/{file}")
            for file in files
        ]
        sink = _IntoFolder(self.disk, [f"{coming}/{file}" for file in files], self._report(name, sizes, offsets))
        try:
            pull.get(wants, sink, with_hash=False)
        finally:
            sink.close()
        inside.sync(coming)
        return True

    def _report(self, name: str, sizes: dict[str, int], offsets: dict[str, int]) -> Callable[[int], None]:
        total, here = sum(sizes.values()), sum(offsets.values())

        def report(count: int) -> None:
            nonlocal here
            here += count
            if self._progress is not None:
                self._progress(name, count, here, total)

        return report

    def _publish(self, name: str) -> None:
        inside = self.disk.inside
        inside.rename(f"{COMING}/{name}", f"{_PUBLISHED}/{name}")
        inside.sync(_PUBLISHED)
        inside.sync(COMING)

    def _drop_others(self, name: str) -> None:
        for found in self.disk.inside.names(COMING):
            if is_checkpoint(text(found)) and text(found) != name:
                self.disk.inside.remove_tree(f"{COMING}/{text(found)}")


class _IntoFolder:
    """A sink that appends to the files of a coming checkpoint."""

    def __init__(self, disk: Disk, paths: list[str], report: Callable[[int], None]) -> None:
        self._disk = disk
        self._paths = paths
        self._report = report
        self._fd = -1

    def begin(self, index: int, offset: int) -> None:
        self._fd = self._disk.open(self._paths[index], 0 if offset else os.O_TRUNC)

    def data(self, index: int, offset: int, data: memoryview) -> None:  # noqa: ARG002 - a Sink
        self._disk.write(self._fd, data)
        self._report(len(data))

    def end(self, index: int, end: End) -> None:
        if end.why:
            name = self._paths[index].rpartition("/")[2]
            raise NonsenseError(f"a held checkpoint that cannot be read: {name}: {end.why}")
        os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
