"""Where a rank stands that makes no progress, and which of several is the one behind. Pure.

Agents look and tell; who sees all ranks of the cluster decides: the coordinator, or an agent that has them all.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from .value import Value

APART_S = 5.0  # one that fell silent so much earlier than the others is the one that holds them up
STOPPED = ("T", "t")
IN_KERNEL = "D"
_MOST_TEXT = 300
_MOST_RANKS = 4096


class Standing(Value):
    """What was found of one rank. `step` is the last one told, None before the first."""

    rank: int
    step: Optional[int] = None
    phases: int = 0  # of its start, that it has told of
    phase: str = ""  # the last of them
    silent_s: float = 0.0  # since it last told anything at all
    state: str = ""  # of its process, the letter in /proc; empty: not known
    waits: Optional[bool] = None  # whether it is where it waits for its peers; None: not known
    at: str = ""  # the innermost line of the user's code, else of the trainer

    @property
    def stopped(self) -> bool:
        """Its process was stopped, and may be continued."""
        return self.state in STOPPED

    def as_record(self) -> Dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    @property
    def where(self) -> str:
        """For people: `stands at data.py:33 in load`."""
        if self.stopped:
            return "its process is stopped (SIGSTOP, or a debugger)"
        place = f"at {self.at}" if self.at else ""
        if self.state == IN_KERNEL:
            return f"it hangs in the kernel, in a disk or a driver{place and ', ' + place}"
        if place:
            return f"it waits for its peers {place}" if self.waits else f"it stands {place}"
        if self.step is None and self.phase:
            return f"the last that it told is the end of its phase `{self.phase}`"
        return "where it stands could not be found out"


def of_records(value: Any) -> List[Standing]:
    """The standings in a record of another machine, as far as they are any."""
    found = []
    for item in value[:_MOST_RANKS] if isinstance(value, list) else []:
        if isinstance(item, dict) and isinstance(item.get("rank"), int):
            found.append(_of_record(item))
    return found


def _of_record(item: Dict[str, Any]) -> Standing:
    step, phases, silent, waits = item.get("step"), item.get("phases"), item.get("silent_s"), item.get("waits")
    return Standing(
        rank=item["rank"],
        step=step if isinstance(step, int) else None,
        phases=phases if isinstance(phases, int) else 0,
        phase=str(item.get("phase") or "")[:_MOST_TEXT],
        silent_s=float(silent) if isinstance(silent, (int, float)) else 0.0,
        state=str(item.get("state") or "")[:1],
        waits=waits if isinstance(waits, bool) else None,
        at=str(item.get("at") or "")[:_MOST_TEXT],
    )


def behind(found: Sequence[Standing]) -> Standing:
    """The one that the others wait for; `found` is not empty.

    Whose process is stopped goes first, then who is not where ranks wait for each other; then who has told fewer steps
    (before the first one, fewer phases), then who fell silent clearly earlier. If nothing tells them apart, the lowest
    rank stands for them.
    """

    def place(one: Standing) -> Any:
        # What was told may lag by a chunk: where a rank was seen counts more.
        told = (one.step is not None, one.step if one.step is not None else one.phases)
        return (not one.stopped, one.waits is True, told)

    least = min(map(place, found))
    last = [one for one in found if place(one) == least]
    silent = max(one.silent_s for one in last)
    if any(one.silent_s < silent - APART_S for one in last):
        last = [one for one in last if one.silent_s == silent]
    return min(last, key=lambda one: one.rank)


def told(culprit: Standing, found: Sequence[Standing], what: str) -> str:
    """`no progress for 300 s: it stands at data.py:33 in load; rank 0 waits for it`."""
    waiting = [one.rank for one in found if one.rank != culprit.rank and one.waits]
    text = f"{what}: {culprit.where}"
    if waiting and not culprit.waits:
        verb = "waits" if len(waiting) == 1 else "wait"
        text += f"; {ranks_told(waiting)} {verb} for it"
    further = [one.step for one in found if one.step is not None and one.step > (culprit.step or 0)]
    if further and culprit.step is not None:
        text += f"; it told of step {culprit.step}, others of {max(further)}"
    return text


def ranks_told(ranks: Sequence[int]) -> str:
    """`rank 3`, `ranks 0, 1, 2 and 9 more`."""
    shown = ", ".join(str(rank) for rank in sorted(ranks)[:4])
    more = f" and {len(ranks) - 4} more" if len(ranks) > 4 else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}{more}"
