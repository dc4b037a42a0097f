"""All that comes home while a run is alive: the logs of every host, and checkpoints and output where there are some."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from launcher.gather.again import Gatherer, Source
from launcher.gather.checkpoints import Checkpoints
from launcher.gather.copies import Copies
from launcher.gather.disk import FullDisk, Tell
from launcher.gather.mirror import Mirror
from launcher.gather.output import Output
from launcher.gather.which import NEWEST

COMING = "still coming"  # of what is missing without anything being wrong


@dataclass(frozen=True)
class Ways:
    """How a host is reached: for logs, and for checkpoints and output, which need a connection of their own."""

    logs: Source
    bulk: Source


class Gathering:
    """The gatherers of one run. Every method may be called from any thread, and none raises but `start`.

    `home` says which checkpoints come: "newest" or "all"; `keep` how many of them stay at home. `copies` decides which
    host brings what several have; without it each brings all of its own.
    """

    def __init__(
        self,
        hosts: Mapping[str, Ways],
        *,
        home: str = NEWEST,
        keep: int | None = None,
        copies: Copies | None = None,
        tell: Tell = lambda _: None,
    ) -> None:
        self._hosts = dict(hosts)
        self._home, self._keep, self._tell = home, keep, tell
        self._copies = copies or Copies({}, shared=False)
        self._full = FullDisk(tell)
        self._lock = threading.Lock()
        self._gatherers: list[Gatherer] = []
        self._bulky: set[str] = set()
        self._stopped = False

    def start(self) -> None:
        """Begin with everybody's logs. Raises RunError if another process brings them home already."""
        try:
            for ways in self._hosts.values():
                self._start(Mirror(ways.logs, tell=self._tell, full=self._full))
        except BaseException:
            self.stop()
            raise

    def start_bulk(self, host: str) -> None:
        """Begin with a host's checkpoints and output, if that has not been done; for a host that is not ours, nothing.

        Meant for hosts with the chief, or whose journal tells of a checkpoint. Raises RunError as `start` does.
        """
        with self._lock:
            if host not in self._hosts or host in self._bulky or self._stopped:
                return
            self._bulky.add(host)
        source = self._hosts[host].bulk
        checkpoints = Checkpoints(
            source, home=self._home, keep=self._keep, copies=self._copies, tell=self._tell, full=self._full
        )
        self._start(checkpoints)
        self._start(Output(source, tell=self._tell, full=self._full))

    def lost(self, host: str) -> None:
        """The host is not waited for any longer: what others have copies of, they bring."""
        self._copies.over(host)

    def settle(self, timeout_s: float, *, without: Collection[str] = ()) -> list[str]:
        """Wait until all that is on the hosts is here, at most so long; what is not, each with its reason.

        Of hosts to do `without` nothing is awaited or told.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            asked = [(gatherer, gatherer.ask()) for gatherer in self._gatherers if gatherer.host not in without]
        missing = []
        for gatherer, number in asked:
            if not gatherer.wait(number, deadline - time.monotonic()):
                missing.append(f"{gatherer.what} of {gatherer.host}: {gatherer.problem or COMING}")
        return missing

    def problems(self) -> dict[str, str]:
        """What does not come just now, and why; empty while all is well."""
        with self._lock:
            return {f"{g.what} of {g.host}": g.problem for g in self._gatherers if g.problem}

    def stop(self, timeout_s: float = 5.0) -> None:
        """End, whether or not everything is here. May be called twice."""
        with self._lock:
            self._stopped = True
            gatherers = list(self._gatherers)
        for gatherer in gatherers:
            gatherer.give_up()
        deadline = time.monotonic() + timeout_s
        for gatherer in gatherers:
            gatherer.stop(max(0.0, deadline - time.monotonic()))

    def _start(self, gatherer: Gatherer) -> None:
        gatherer.start()
        with self._lock:
            self._gatherers.append(gatherer)
