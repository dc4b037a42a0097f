"""Lines that several ranks print alike are shown once, with the ranks that printed them. Pure.

Only lines that are there at the same time are folded: none is held back to wait for others of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from launcher.view.lines import LogLine

_MOST = 2000  # lines at a time; of more nobody reads any
_AHEAD = 32  # how far a rank may be behind those whose lines are like its own


def folded(lines: Sequence[LogLine]) -> list[LogLine]:
    """The same lines in an order that keeps every rank's own, those that are alike as one.

    Each rank's lines stand together in `lines`.
    """
    if len(lines) > _MOST:
        return list(lines)
    merged: list[LogLine] = []
    for _, ranks in groupby(lines, key=lambda line: (line.generation, line.rank)):
        _merge(merged, list(ranks))
    return merged


def _merge(merged: list[LogLine], lines: Sequence[LogLine]) -> None:
    at = 0  # where the rank's next line may stand
    own: list[LogLine] = []  # unlike any so far: they go before the next one that is not
    for line in lines:
        place = _like(merged, line, at)
        if place is None:
            own.append(line)
            continue
        merged[place] = replace(merged[place], others=(*merged[place].others, (line.rank, line.host)))
        merged[place:place] = own
        at = place + len(own) + 1
        own = []
    merged += own


def _like(merged: Sequence[LogLine], line: LogLine, start: int) -> int | None:
    for place in range(start, min(len(merged), start + _AHEAD)):
        one = merged[place]
        if one.text == line.text and one.generation == line.generation and one.rank != line.rank:
            return place
    return None
