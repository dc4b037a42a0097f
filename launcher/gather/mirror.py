"""A host's logs, progress files and journal come home as they are written: whole, in order, byte for byte."""

from __future__ import annotations

import time

from launcher.errors import NotFitError
from launcher.gather import checked
from launcher.gather.again import Gatherer
from launcher.gather.asking import SILENT_S, Pull
from launcher.gather.disk import Disk
from launcher.gather.segments import Segments
from worker.contract import pulling

WINDOW = 1 << 19  # what may be under way from one host: with 64 of them, what they all may hold in memory


class Mirror(Gatherer):
    """Follows one host for as long as it is not stopped; see Gatherer for its arguments.

    Every connection goes on at the byte that is here, be it after a break or after another coordinator's death.
    """

    what = "logs"

    def _converse(self, pull: Pull, disk: Disk) -> None:
        follow = Following(pull, Segments(disk, lambda text: self._tell(f"{self.host}: {text}")))
        sent = 0
        while not self._stopping.is_set():
            if self._asked > sent:
                sent = self._asked
                pull.sync(sent)
            synced = follow.step(self._wake)
            self._quieten()
            if follow.heard:
                self._heard()
            if synced:
                self._settle(min(synced, sent))


class Following:
    """One connection's stream of what is new. Raises what Pull and Disk raise."""

    def __init__(self, pull: Pull, segments: Segments) -> None:
        self._pull = pull
        self._segments = segments
        self._heard_at = time.monotonic()
        self.heard = False  # a frame has come
        pull.follow(segments.known(), WINDOW)

    def step(self, wake: int, timeout_s: float = 5.0) -> int:
        """Take one frame, if one comes in time; the number of a `sync` that it answers, or 0."""
        frame = self._pull.next(wake, timeout_s)
        if frame is None:
            if time.monotonic() - self._heard_at > SILENT_S:
                raise NotFitError(f"{self._pull.host} has been silent for {SILENT_S:g} s")
            return 0
        self._heard_at = time.monotonic()
        self.heard = True
        message, raw = frame
        if message["type"] == pulling.SYNCED:
            number = message.get("n", 0)
            return int(number) if checked.is_count(number) else 0
        self._segments.begin(checked.segments(message))
        for number, offset, data in checked.parts(message, raw):
            self._segments.add(number, offset, data)
        # An acknowledgement of nothing answers `alive`: so the host knows that we are there, too.
        self._pull.acknowledge(len(raw))
        return 0
