"""Keeps a conversation with one host going, whatever the connection does: ask again, later and later, with jitter."""

from __future__ import annotations

import contextlib
import os
import random
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from launcher.errors import LauncherError
from launcher.gather.asking import EndedError, Pull
from launcher.gather.checked import NonsenseError
from launcher.gather.disk import FULL, Claim, Disk, FullDisk, StoppedError, Tell
from launcher.hosts.session import Session

Connect = Callable[[], Session]

_FIRST_WAIT_S = 0.3
_LONGEST_WAIT_S = 8.0
_TELL_AFTER_S = 10.0
_MOST_TOLD = 10


@dataclass(frozen=True)
class Source:
    """A run's folder on a host, where it belongs at home, and how to get there.

    `connect` gives a session that works; it is asked at the start and after every break. It may block, and raise
    NotFitError. The session before is closed by then, unless `closes` says that it is shared with others.
    """

    host: str
    folder: str
    home: str
    connect: Connect
    workdir: str
    closes: bool = True


class Gatherer(ABC):
    """A thread that brings something of one host's run folder home, until it is stopped.

    What a person should know goes to `tell`, once for each trouble; it is called from the thread. `full` is shared by
    all that write to the same disk.
    """

    what: str  # what it brings, as messages name it

    def __init__(self, source: Source, *, tell: Tell = lambda _: None, full: FullDisk | None = None) -> None:
        self.source = source
        self.host = source.host
        self._tell = tell
        self._full = full or FullDisk(tell)
        self._session: Session | None = None
        self._stopping = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._changed = threading.Condition()
        self._asked = 0  # the newest call of `settle`
        self._settled = 0
        self._thread: threading.Thread | None = None
        self._claim: Claim | None = None
        self._hears = False  # something has come on this connection
        self._told: set[str] = set()
        self.problem = ""  # why nothing comes just now; empty while all is well
        self.breaks = 0  # how often a conversation has ended before its time

    def start(self) -> None:
        """Begin. Raises RunError if another process brings the same home already."""
        try:
            self._claim = Claim(self.source.home, self.what)
        except BaseException:
            self._release()
            raise
        self._thread = threading.Thread(target=self._run, name=f"{self.what} of {self.host}", daemon=True)
        self._thread.start()

    def ask(self) -> int:
        """Ask for all that is on the host now, and go on; a number for `wait`. From any thread."""
        with self._changed:
            self._asked += 1
            self._ring()
            return self._asked

    def wait(self, asked: int, timeout_s: float) -> bool:
        """Wait until what was asked for is here, at most so long; whether it is. From any thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._settled >= asked or self._stopping.is_set(), max(0.0, timeout_s))
            return self._settled >= asked

    def settle(self, timeout_s: float) -> bool:
        """Both: wait until all that is on the host now is here, at most so long; whether it is."""
        return self.wait(self.ask(), timeout_s)

    def give_up(self) -> None:
        """Ask the thread to end; `stop` waits for it."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
            if self._wake >= 0:
                self._ring()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End, whether or not everything is here; waits for the thread, at most so long. May be called twice."""
        self.give_up()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return  # another call lets go of the rest, or the end of the process
        self._release()

    @abstractmethod
    def _converse(self, pull: Pull, disk: Disk) -> None:
        """Bring what there is, and what comes, until `_stopping`. May raise whatever a Pull or a Disk raises."""

    def _run(self) -> None:
        try:
            self._keep_going()
        finally:
            self._drop_session()

    def _keep_going(self) -> None:
        wait_s = _FIRST_WAIT_S
        since = time.monotonic()
        told = False
        while not self._stopping.is_set():
            self._hears = False
            try:
                self._once()
            except StoppedError:
                return
            except (LauncherError, OSError, EndedError, NonsenseError, ValueError) as error:
                self._trouble(error)
            if self._hears:
                wait_s, since, told = _FIRST_WAIT_S, time.monotonic(), False
            if not told and time.monotonic() - since > _TELL_AFTER_S:
                told = True
                self._tell(f"{self.host}: nothing of its {self.what} comes home for now: {self.problem}")
            self._stopping.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    def _once(self) -> None:
        if self._session is None:
            self._session = self.source.connect()
        disk = Disk(self.source.home, self._full, self._stopping)
        try:
            with Pull(self._session, self.source.folder, workdir=self.source.workdir) as pull:
                self._converse(pull, disk)
        finally:
            disk.close()

    def _heard(self) -> None:
        """Something has come: whatever was wrong is so no more."""
        self._hears = True
        self.problem = ""

    def _trouble(self, error: Exception) -> None:
        self.problem = getattr(error, "message", "") or str(error)
        self.breaks += 1
        if isinstance(error, OSError) and error.errno in FULL:
            self._full.met(self.source.home)
        if isinstance(error, NonsenseError):
            self._hears = False  # so that it is asked less and less often
            self._tell_once(f"{self.host} sends what cannot be: {self.problem}")
        # An errand that has ended is started again on the same connection; one that is silent says that this is broken.
        if isinstance(error, LauncherError) or (self._session is not None and not self._session.alive):
            self._drop_session()

    def _tell_once(self, text: str) -> None:
        """Tell what would otherwise be told again and again; of a host that has ever new troubles, the first few."""
        if text not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(text)
            self._tell(text)

    def _pause(self, seconds: float) -> None:
        """Wait, unless somebody rings."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.poll(int(seconds * 1000))
        self._quieten()

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None and self.source.closes:
            with contextlib.suppress(OSError, LauncherError):
                session.close()

    def _settle(self, number: int) -> None:
        with self._changed:
            self._settled = max(self._settled, number)
            self._changed.notify_all()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _quieten(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_read(self._wake)

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
        with self._changed:
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1
