"""An agent that is kept warm after its run: it holds a zygote, and nothing else, and waits for the next run.

It listens under a name that is made of what the two runs have in common. Whoever starts an agent for such a run asks
there first, and hands over the socket of the new run's agent. Whatever is doubtful is refused, with the reason, and
then this one goes: the next start would refuse it, too. It also goes when its time is up, when memory runs low, when
the zygote dies, and on SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Optional, Tuple

from ..contract import layout
from ..contract.machine import memory
from . import name_held, processes
from .birth import Birth, speak_into
from .kept import Kept, move_package, reap
from .offer import Offer, OfferError, take_offer

if TYPE_CHECKING:
    from .workers import Workers

LEAST_MEMORY = 1 << 30  # below this it goes; the kernel, too, would take the zygote before anything else
MOST_MEMORY = 3 << 30  # of the zygote's own: import and data set, at most so much is kept
LOOK_S = 1.0

Taken = Tuple[socket.socket, Birth, Kept]


class NotKeptError(Exception):
    """Why nothing is kept."""


class Keeper:
    """Takes the zygote of a run that is over. `begin` gives up all that is the run's; `wait` ends with the next run."""

    def __init__(self, birth: Birth, to_warden: socket.socket, workers: Workers, seconds: float) -> None:
        """Raises NotKeptError; then nothing has changed."""
        if not birth.warm:
            raise NotKeptError("nobody would find it")
        free = memory.available()
        if free is not None and free < LEAST_MEMORY:
            raise NotKeptError(f"{free >> 20} MB of memory are free, and {LEAST_MEMORY >> 20} are wanted")
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._door.bind(layout.kept_socket(birth.warm))
            self._door.listen(8)  # before the run's end is told: whoever begins another one then is to find us
        except OSError:
            self._door.close()
            raise NotKeptError("another one is kept warm for such a run") from None
        zygote = workers.give_up_zygote()
        if zygote is None:
            self._door.close()
            raise NotKeptError("no rank was forked, so there is nothing to keep")
        self._kept = Kept(zygote, birth.run)
        self._birth, self._warden = birth, to_warden
        self._until = _boottime() + seconds
        self._over = False

    @property
    def who(self) -> Tuple[int, int]:
        """Pid and start time of what is kept."""
        child = self._kept.zygote.child
        return child.pid, child.start_time

    def begin(self) -> None:
        """From now on the run's name is free."""
        with contextlib.suppress(OSError):
            name_held.free(self._warden)

    def wait(self) -> Optional[Taken]:
        """Until another run takes this agent, which is then to be its own; None if it is to end."""
        processes.name_this_process("launcher-kept")
        woken, wakes = os.pipe()
        for descriptor in (woken, wakes):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        try:
            offer = self._wait(woken)
        finally:
            self._door.close()
            signal.set_wakeup_fd(-1)
            os.close(woken)
            os.close(wakes)
        if offer is None:
            self._kept.end()
            reap(self._kept.zygote.child.pid)
            return None
        self._become(offer)
        return offer.listener, offer.birth, self._kept

    def _end(self, *_: object) -> None:
        self._over = True

    def _wait(self, woken: int) -> Optional[Offer]:
        poll = select.poll()
        for descriptor in (woken, self._door.fileno(), self._warden.fileno()):
            poll.register(descriptor, select.POLLIN)
        while not self._over and (left := self._until - _boottime()) > 0:
            ready = {descriptor for descriptor, _ in poll.poll(1000 * min(left, LOOK_S))}
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
            free = memory.available()
            if self._warden.fileno() in ready or not self._is_whole() or (free is not None and free < LEAST_MEMORY):
                return None
            if self._door.fileno() in ready and not self._over:
                try:
                    offer = take_offer(self._door, self._doubt)
                except OfferError:
                    return None
                if offer is not None:
                    return offer
        return None

    def _is_whole(self) -> bool:
        """Whether the zygote lives; whatever else came to us is reaped."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return _size(self._kept.zygote.child.pid) <= MOST_MEMORY
                if pid == self._kept.zygote.child.pid:
                    return False
        return False

    def _doubt(self, code: str) -> str:
        """Why the code that is wanted is not what runs here."""
        return "" if code == self._birth.code else "it is of another version of this program"

    def _become(self, offer: Offer) -> None:
        """The same process, as a fresh start would have made it."""
        with contextlib.suppress(OSError):
            name_held.hold(self._warden, offer.listener)
        os.environ.clear()
        os.environ.update(offer.environ)
        speak_into(offer.birth.place.agent_log)
        move_package(__name__, offer.package)
        with contextlib.suppress(OSError):
            os.open(offer.package, os.O_RDONLY)  # in use, for `clean`


def _boottime() -> float:
    """A suspended machine's time counts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _size(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
