"""From a run folder's files to a RunView: once, or again and again with only what is new being read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from launcher.errors import UsageError
from launcher.runs.alive import who_lives
from launcher.runs.booking import Story, booking
from launcher.runs.clocks import events_by_ours, progress_by_ours
from launcher.runs.folder import RunFolder
from launcher.runs.ledger import Booking
from launcher.runs.model import Alive, RunView
from launcher.runs.state import fold
from launcher.runs.tail import Progress, ProgressTail, RecordTail
from launcher.runs.told import safe_name, told_by_coordinator
from worker.contract import records
from worker.contract.records import Record
from worker.contract.states import RunState

Probe = Callable[[RunFolder, Sequence[Record], Mapping[str, Sequence[Record]]], Alive]
PROBE_EVERY_S = 1.0
_HOSTS_ASKED = 3  # for the steps of a generation that is over


def read_run(folder: RunFolder, probe: Probe = who_lives, *, book: bool = False) -> RunView:
    """All that can be told of a run now; with `book`, what its time was spent on, too. Raises UsageError when the
    folder holds no run."""
    reader = RunReader(folder, probe)
    view = reader.poll()
    if not reader.found:
        raise UsageError(f"{folder.path} holds no run", hint="launcher list shows the runs that there are")
    return replace(view, booking=reader.booking(view, time.time())) if book else view


class RunReader:
    """Reads what is new in a run's journals and progress files, for as long as somebody looks.

    A poll in which nothing is new costs a few stat calls. Who lives is asked once a second at most.
    """

    def __init__(
        self, folder: RunFolder, probe: Probe = who_lives, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = folder
        self._probe = probe
        self._clock = clock
        self._journal = RecordTail(folder.journal)
        self._hosts: dict[str, RecordTail] = {}
        self._progress: dict[int, ProgressTail] = {}
        self._generation: tuple[int, tuple[tuple[int, str], ...]] | None = None
        self._alive = Alive()
        self._probed_at: float | None = None
        self._view: RunView | None = None

    @property
    def found(self) -> bool:
        """Whether the journal says that there is a run."""
        return any(record["type"] == records.RUN_CREATED for record in self._journal.records[:10])

    def poll(self) -> RunView:
        """Read what is new. The same object comes back when nothing is."""
        # Who lives is asked before the files are read: whoever is found gone has written all that it ever will.
        changed = self._ask_who_lives()
        changed |= self._journal.read()
        if changed or self._view is None:
            self._find_files()
        # Every one is read: `any` over a generator would stop at the first that has news.
        changed |= any([tail.read() for tail in self._hosts.values()])
        changed |= any([tail.read() for tail in self._progress.values()])
        if changed or self._view is None:
            self._view = fold(self.folder, self._journal.records, self._host_events(), self._newest(), self._alive)
        return self._view

    def booking(self, view: RunView, now: float) -> Booking | None:
        """What the run's time was spent on. Reads the ends of the progress files of earlier generations, too."""
        ahead = told_by_coordinator(self._journal.records).clocks
        progress: dict[int, dict[int, Progress]] = {}
        for generation in view.generations:
            for rank, host in _one_of_each_host(generation.ranks):
                tail = ProgressTail(self.folder.host(host).progress(generation.generation, rank))
                tail.read()
                progress.setdefault(generation.generation, {})[rank] = progress_by_ours(
                    tail.progress, ahead.get(host, 0.0)
                )
        return booking(
            Story(
                begins_at=view.started_at,
                ends_at=view.ended_at if view.ended else now,
                run_events=self._journal.records,
                host_events=events_by_ours(self._host_events(), ahead),
                generations=view.generations,
                progress=progress,
                with_steps=view.epochs_planned is not None,
                lives=not view.ended,
                finished=view.state is RunState.TRAINED,
            )
        )

    def _ask_who_lives(self) -> bool:
        now = self._clock()
        if self._probed_at is not None and now - self._probed_at < PROBE_EVERY_S:
            return False
        if self._probed_at is None:  # the agents' journals say on which machine they are
            self._journal.read()
            self._find_files()
            for tail in self._hosts.values():
                tail.read()
        self._probed_at = now
        before = self._alive
        self._alive = self._probe(self.folder, self._journal.records, self._host_events())
        # A worker without an agent can go at any time without a word in a file.
        orphans = any(pid is None for pid in self._alive.agents.values()) and not (self._view and self._view.ended)
        return orphans or (before.coordinator, before.agents) != (self._alive.coordinator, self._alive.agents)

    def _find_files(self) -> None:
        told = told_by_coordinator(self._journal.records)
        newest = told.generation
        hosts = [*told.hosts, *(host for g in told.generations.values() for _, host in g.ranks)]
        for host in hosts:
            if host not in self._hosts and safe_name(host):
                self._hosts[host] = RecordTail(self.folder.host(host).journal)
        which = (newest.generation, newest.ranks) if newest else None
        if newest and which != self._generation:
            self._generation = which
            self._progress = {
                rank: ProgressTail(self.folder.host(host).progress(newest.generation, rank))
                for rank, host in newest.ranks
            }

    def _host_events(self) -> dict[str, list[Record]]:
        return {host: tail.records for host, tail in self._hosts.items()}

    def _newest(self) -> dict[int, Progress]:
        return {rank: tail.progress for rank, tail in self._progress.items()}


def _one_of_each_host(ranks: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The chief, and one rank on each of a few other hosts: they walk in step, but a file may not have come home."""
    found: dict[str, int] = {}
    for rank, host in sorted(ranks):
        if safe_name(host):
            found.setdefault(host, rank)
    return [(rank, host) for host, rank in list(found.items())[:_HOSTS_ASKED]]
