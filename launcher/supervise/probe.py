"""After workers lost each other though none had died: every pair of hosts is tried again, as before the run.

The fewest hosts that have part in every pair that failed are named: without them the others reach each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.check import pairs, preflight
from launcher.check.staged import Staged
from launcher.errors import ApartError
from launcher.hosts.session import Session
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec
from launcher.supervise.core.cover import smallest_cover

_MOST_TOLD = 3


def probe(spec: ClusterSpec, run: RunFolder, sessions: Mapping[str, Session], staged: Staged) -> None:
    """Try all pairs of these hosts. Blocks a few seconds. Raises ApartError about the hosts to do without."""
    tried = preflight.try_pairs(spec, run, sessions, staged)
    refuse([] if tried is None else tried.pairs, [host.name for host in spec.hosts if host.name in sessions])


def refuse(tried: Sequence[pairs.Pair], hosts: Sequence[str]) -> None:
    """Raises ApartError if a pair of these hosts failed. Pure."""
    failed = [pair for pair in tried if pair.why and not pair.extra and {pair.source, pair.target} <= set(hosts)]
    if not failed:
        return
    left_out = smallest_cover([(pair.source, pair.target) for pair in failed], hosts)
    told = [f"{pair.source} → {pair.target} ({pair.why})" for pair in failed[:_MOST_TOLD]]
    more = f" and {len(failed) - _MOST_TOLD} more" if len(failed) > _MOST_TOLD else ""
    error = ApartError(
        f"{', '.join(told)}{more}: not all hosts reach each other, without {' and '.join(left_out)} they would",
        hint="look at the network between them; `launcher check` tries every pair and says what would open it",
    )
    error.hosts = frozenset(left_out)
    raise error
