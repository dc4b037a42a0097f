"""Hosts for tests of gathering: real errands on this machine, over connections that break wherever one likes."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import hashlib
import io
import json
import random
import shutil
import struct
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from launcher.errors import NotFitError
from launcher.gather.again import Gatherer, Source
from launcher.hosts.door import enter
from launcher.hosts.local_session import LocalSession
from launcher.hosts.package import installed
from launcher.hosts.session import Channel, Session
from worker.contract import checkpoints
from worker.contract.layout import AT_HOME_MARK, checkpoint_name


class CutChannel(Channel):
    """A channel that breaks after so many bytes in either direction, in the middle of whatever is under way."""

    def __init__(self, inner: Channel, session: CuttingSession) -> None:
        self._inner = inner
        self._session = session

    def fileno(self) -> int:
        return self._inner.fileno()

    def read(self, most: int = 1 << 18) -> bytes | None:
        left = self._session.left()
        data = self._inner.read(min(most, max(1, left)))
        if data == b"" and self._session.cut:
            raise ConnectionResetError(errno.ECONNRESET, "cut")
        if data:
            self._session.spend(len(data))
        return data

    def write(self, data: bytes | memoryview) -> int:
        sent = self._inner.write(data[: max(1, self._session.left())])
        self._session.spend(sent)
        return sent

    def wait_writable(self, timeout_s: float) -> bool:
        return self._inner.wait_writable(timeout_s)

    def end_input(self) -> None:
        self._inner.end_input()

    def errors(self) -> str:
        return self._inner.errors()

    def exit_status(self) -> int | None:
        return self._inner.exit_status()

    def close(self) -> None:
        self._inner.close()


class CuttingSession(Session):
    """This machine, reached over a connection that carries `budget` bytes and then breaks."""

    def __init__(self, name: str, budget: int) -> None:
        self.name = name
        self.cut = False
        self._inner = LocalSession(name)
        self._left = budget
        self._door = len(installed().door) + 400  # what each conversation begins with, and is not counted

    def left(self) -> int:
        """How many bytes may still pass. Raises OSError once it is cut."""
        if self.cut or self._left <= 0:
            self.cut = True
            raise ConnectionResetError(errno.ECONNRESET, "cut")
        return self._left

    def spend(self, count: int) -> None:
        self._left -= count

    def run(self, command: str) -> Channel:
        if self.cut:
            raise NotFitError(f"the connection to {self.name} is cut")
        self._left += self._door
        return CutChannel(self._inner.run(command), self)

    @property
    def alive(self) -> bool:
        return not self.cut

    def close(self) -> None:
        self.cut = True
        self._inner.close()


class BadLink:
    """Connects again and again; each connection breaks after a random number of bytes, the seed says which."""

    def __init__(self, name: str, seed: int, least: int, most: int, cuts: int = 1 << 30) -> None:
        self._name = name
        self._random = random.Random(seed)
        self._least, self._most = least, most
        self._cuts = cuts
        self.connections = 0

    def connect(self) -> Session:
        self.connections += 1
        if self.connections > self._cuts:
            return LocalSession(self._name)
        return CuttingSession(self._name, self._random.randint(self._least, self._most))


def source(tmp_path: Path, connect: Callable[[], Session] | None = None, name: str = "h1") -> Source:
    """A host's folder and its mirror, both on this machine. Our package is there already, in a workdir of all tests."""
    there, home = tmp_path / "there" / name, tmp_path / "home" / name
    there.mkdir(parents=True, exist_ok=True)
    return Source(
        host=name,
        folder=str(there),
        home=str(home),
        connect=connect or (lambda: LocalSession(name)),
        workdir=workdir(),
    )


@functools.lru_cache(maxsize=1)
def workdir() -> str:
    """With our package in it, so that no test waits for that, or has to reckon with its size."""
    folder = tempfile.mkdtemp(prefix="launcher-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.closing(LocalSession("prime")) as session:
        enter(session, "pull", workdir=folder).close()
    return folder


@contextlib.contextmanager
def running(*gatherers: Gatherer) -> Iterator[None]:
    """Started, and ended whatever happens; no thread of theirs is left."""
    try:
        for gatherer in gatherers:
            gatherer.start()
        yield
    finally:
        for gatherer in gatherers:
            gatherer.stop(10.0)
        left = [thread.name for thread in threading.enumerate() if " of h" in thread.name]
        assert left == []


def until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Wait for a condition; fails with `what` after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(0.01)


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def append(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        file.write(data)


def tree(folder: str | Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, but for what is half there, and marks of what is at home."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.relative_to(root).parts[0] != ".gather"
        and not path.name.startswith(AT_HOME_MARK)
    }


def make_checkpoint(host: str | Path, step: int, *, generation: int = 1, size: int = 4000, seed: int = 0) -> str:
    """Publish a whole checkpoint in a host folder, as an agent would: all at once, under its name."""
    name = checkpoint_name(generation, step)
    folder = Path(host) / "checkpoints"
    coming = folder / f".making-{name}"
    coming.mkdir(parents=True)
    (coming / checkpoints.ARRAYS).write_bytes(_arrays(random.Random(f"{seed} {name}").randbytes(size)))
    (coming / checkpoints.STATE).write_text(json.dumps({"step": step}))
    files = {
        file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for file in checkpoints.FILES
        for data in [(coming / file).read_bytes()]
    }
    manifest = {"files": files, "step": step, "epoch": 1, "generation": generation, "why": "every"}
    (coming / checkpoints.MANIFEST).write_text(json.dumps(manifest))
    coming.rename(folder / name)
    return name


def prune(host: str | Path, name: str) -> None:
    """Remove a checkpoint as an agent does."""
    folder = Path(host) / "checkpoints"
    doomed = folder / f".pruned-{name}"
    (folder / name).rename(doomed)
    for file in doomed.iterdir():
        file.unlink()
    doomed.rmdir()


def _arrays(data: bytes) -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(data)},), }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)
    return out.getvalue()


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
