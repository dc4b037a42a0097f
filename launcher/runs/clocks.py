"""Hosts whose clocks are wrong: what was written down by them is told by this machine's time. Pure.

Without that, the first of two failures is not the one that happened first, and times between hosts are hours wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from launcher.runs.fields import number
from launcher.runs.tail import Progress
from worker.contract.records import Record


def by_ours(record: Mapping[str, Any], ahead_s: float) -> Record:
    """A record of a host whose clock is so far ahead, with the time that this machine's clock had then."""
    t = number(dict(record), "t")
    return dict(record) if t is None or not ahead_s else {**record, "t": t - ahead_s}


def events_by_ours(
    host_events: Mapping[str, Sequence[Record]], clocks: Mapping[str, float]
) -> Mapping[str, Sequence[Record]]:
    """All hosts' journals; `clocks` says how far which hosts' clocks are ahead."""
    if not clocks:
        return host_events
    return {
        host: [by_ours(record, clocks[host]) for record in events] if host in clocks else events
        for host, events in host_events.items()
    }


def progress_by_ours(progress: Progress, ahead_s: float) -> Progress:
    """What a rank on such a host tells of its progress."""
    first = progress.first_step_at
    return replace(
        progress,
        step=None if progress.step is None else by_ours(progress.step, ahead_s),
        first_step_at=None if first is None else first - ahead_s,
    )
