"""What the errands of staging have in common: folders of our own in the workdir, locks, and words for trouble."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import time
from contextlib import contextmanager
from typing import Any, Iterator, Optional

from ..contract import bulk, wire
from .talk import Talk

PATIENCE_S = 60.0  # without a byte while some are expected: the client is gone, whatever the connection says
WORD_EVERY_S = 2.0


class TroubleError(Exception):
    """What the coordinator is told as an `error`: `kind`, and what is known of it."""

    def __init__(self, kind: str, **about: Any) -> None:
        super().__init__(kind)
        self.about = {**about, "kind": kind}


class GoneError(Exception):
    """The client is gone: there is nobody left to tell."""


def trouble(error: OSError, path: "str | bytes") -> TroubleError:
    kind = "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "folder"
    return TroubleError(kind, path=os.fsdecode(path), why=error.strerror or str(error))


@contextmanager
def troubling(path: "str | bytes") -> Iterator[None]:
    """Turns an OSError into the TroubleError that names a path."""
    try:
        yield
    except OSError as error:
        raise trouble(error, path) from error


def own_folder(*parts: str) -> str:
    """A folder that is ours alone, made if it is not there. Raises TroubleError."""
    place = os.path.join(*parts)
    with troubling(place):
        os.makedirs(place, 0o700, exist_ok=True)
        about = os.lstat(place)
        if not stat.S_ISDIR(about.st_mode):
            raise TroubleError("nofolder", path=place)
        if about.st_uid != os.getuid():
            raise TroubleError("owner", path=place, uid=about.st_uid)
        if about.st_mode & 0o077:
            os.chmod(place, 0o700)
    return place


def expect(talk: Talk, kind: str) -> bulk.Frame:
    """The next frame, which must be of this type. Raises GoneError, also if nothing comes for PATIENCE_S."""
    if not talk.pending and not select.select([talk.input_fileno()], [], [], PATIENCE_S)[0]:
        raise GoneError
    frame = talk.receive()
    if frame is None:
        raise GoneError
    if frame[0]["type"] != kind:
        raise wire.WireError(f"{frame[0]['type']} came, and {kind} was expected")
    return frame


@contextmanager
def locked(talk: Talk, workdir: str, name: str) -> Iterator[bool]:
    """Hold the lock of this name among all launchers that use this workdir, on other hosts of one file system too.

    Yields whether somebody else had it before. Says `waiting` meanwhile. Where the file system has no locks, there is
    none: what is done under it is renamed into place, so at worst it is done twice.
    """
    path = os.path.join(own_folder(workdir, "locks"), name)
    with troubling(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield _wait_for(talk, lock, name)
    finally:
        os.close(lock)


def _wait_for(talk: Talk, lock: int, name: str) -> bool:
    waited = False
    said: Optional[float] = None
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                return waited  # no locks here
        waited = True
        if said is None or time.monotonic() - said > WORD_EVERY_S:
            said = time.monotonic()
            talk.send({"type": "waiting", "what": name})
        time.sleep(0.05)


def send_long(talk: Talk, kind: str, data: bytes) -> None:
    """Bytes of any number, in frames of which the last says so."""
    for at in range(0, max(1, len(data)), bulk.MAX_RAW):
        talk.send({"type": kind, "last": at + bulk.MAX_RAW >= len(data)}, data[at : at + bulk.MAX_RAW])


class Pulse:
    """Tells the client, every few seconds, that something is being done; to be called as often as one likes."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._said = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._said > WORD_EVERY_S:
            self._said = time.monotonic()
            try:
                self._talk.send({"type": "waiting", "what": ""})
            except OSError as error:  # not to be taken for a failure of the disk
                raise GoneError from error
