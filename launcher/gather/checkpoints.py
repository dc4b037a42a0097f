"""Published checkpoints come home: held on the host, resumed at the byte where a cut left them, verified, then renamed.

Which one is next is decided here by a pure rule. A transfer that was begun is finished, however many newer ones are
published meanwhile: if each new one drove out the one under way, a link slower than the publishing would never bring
home any. What is at home is thus never older than one transfer and what was published during it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable

from launcher.gather.again import Gatherer, Source
from launcher.gather.arrivals import Want
from launcher.gather.asking import Pull
from launcher.gather.checked import End, NonsenseError
from launcher.gather.disk import COMING, Disk, FullDisk, Tell
from worker.contract import pulling
from worker.contract.checkpoints import verify
from worker.contract.inside import text
from worker.contract.layout import parse_checkpoint_name

NEWEST, ALL = "newest", "all"
_PUBLISHED = "checkpoints"
_DOOMED = "doomed-"
_RESERVE = 64 << 20  # what a checkpoint leaves of the disk, so that logs go on
_EVERY_S = 1.0
_MOST_MISSED = 3
_MOST_BYTES = 1 << 44

Progress = Callable[[str, int, int, int], None]


class RefusedError(Exception):
    """What came is no whole checkpoint, and was not cut short either."""


class NoRoomError(Exception):
    """The disk at home has no room for it just now."""


def next_wanted(
    there: Iterable[str], here: Collection[str], begun: str, refused: Collection[str], home: str, keep: int | None
) -> str:
    """The name of the checkpoint to bring next, or "". `begun` is partly here, and may have been pruned there. Pure."""
    names = {name for name in (*there, *here) if _order(name) is not None}
    best = sorted(names, key=_rank)[-(keep or len(names)) :] if names else []
    newest = max((_rank(name) for name in here if _order(name)), default=(-1, -1))
    candidates = [name for name in best if name not in here and name not in refused]
    if home == NEWEST:
        candidates = [name for name in candidates if _rank(name) > newest]
    if begun and begun not in here and begun not in refused and (home == ALL or _rank(begun) > newest):
        return begun
    if not candidates:
        return ""
    return candidates[-1] if home == NEWEST else candidates[0]


def to_prune(here: Iterable[str], keep: int | None) -> list[str]:
    """What goes at home, so that the newest `keep` remain. Pure."""
    names = sorted((name for name in here if _order(name)), key=_rank)
    return names[: max(0, len(names) - keep)] if keep else []


class Checkpoints(Gatherer):
    """Brings one host's checkpoints home as they are published; see Gatherer for the other arguments.

    `home` is NEWEST or ALL; `keep` says how many stay at home, None for all of them. `progress` is told (name, bytes
    of this piece, bytes here, bytes in all), from the thread.
    """

    what = "checkpoints"

    def __init__(
        self,
        source: Source,
        *,
        home: str = NEWEST,
        keep: int | None = None,
        progress: Progress | None = None,
        tell: Tell = lambda _: None,
        full: FullDisk | None = None,
    ) -> None:
        super().__init__(source, tell=tell, full=full)
        self._policy, self._keep, self._progress = home, keep, progress

    def _converse(self, pull: Pull, disk: Disk) -> None:
        here = AtHome(disk, self._progress)
        if not here.begun():
            pull.release()  # of a connection that broke after its checkpoint was whole here
        while not self._stopping.is_set():
            asked = self._asked
            there = pull.listing(pulling.CHECKPOINTS).checkpoints
            self._heard()
            name = next_wanted(there, here.names(), here.begun(), here.refused, self._policy, self._keep)
            if name:
                self._bring(pull, here, name)
            else:
                self._settle(asked)
                self._pause(_EVERY_S)

    def _bring(self, pull: Pull, here: AtHome, name: str) -> None:
        try:
            if here.bring(pull, name):
                here.prune(self._keep)
            else:
                self._pause(_EVERY_S / 4)  # it has just been pruned; the next list says so
                here.missed(name)
        except RefusedError as error:
            self._tell(f"checkpoint {name} of {self.host} is not kept: {error}")
        except NoRoomError as error:
            self._tell_once(f"no room at home for checkpoint {name} of {self.host}: {error}; it is tried again")
            self._pause(10 * _EVERY_S)


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
        return [text(name) for name in self.disk.inside.names(_PUBLISHED) if _order(text(name))]

    def begun(self) -> str:
        """The one that is partly here, or ""."""
        found = [text(name) for name in self.disk.inside.names(COMING) if _order(text(name))]
        return max(found, key=_rank, default="")

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

    def prune(self, keep: int | None) -> None:
        """Let only the newest `keep` stay."""
        for name in to_prune(self.names(), keep):
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
            if _order(text(found)) and text(found) != name:
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


def _order(name: str) -> tuple[int, int] | None:
    return parse_checkpoint_name(name)


def _rank(name: str) -> tuple[int, int]:
    return parse_checkpoint_name(name) or (-1, -1)
