"""Which checkpoint comes home next, and which go: rules without state. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from worker.contract.layout import parse_checkpoint_name

NEWEST, ALL = "newest", "all"


def next_wanted(
    there: Iterable[str], here: Collection[str], begun: str, refused: Collection[str], home: str, keep: int | None
) -> str:
    """The name of the checkpoint to bring next, or "". `begun` is partly here, and may have been pruned there.

    A transfer that was begun is finished, however many newer ones are published meanwhile: if each new one drove out
    the one under way, a link slower than the publishing would never bring home any. What is at home is thus never older
    than one transfer and what was published during it.
    """
    names = {name for name in (*there, *here) if is_checkpoint(name)}
    best = sorted(names, key=rank)[-(keep or len(names)) :] if names else []
    newest = max((rank(name) for name in here if is_checkpoint(name)), default=(-1, -1))
    candidates = [name for name in best if name not in here and name not in refused]
    if home == NEWEST:
        candidates = [name for name in candidates if rank(name) > newest]
    if begun and begun not in here and begun not in refused and (home == ALL or rank(begun) > newest):
        return begun
    if not candidates:
        return ""
    return candidates[-1] if home == NEWEST else candidates[0]


def to_prune(here: Iterable[str], keep: int | None) -> list[str]:
    """What goes at home, so that the newest `keep` remain."""
    names = sorted((name for name in here if is_checkpoint(name)), key=rank)
    return names[: max(0, len(names) - keep)] if keep else []


def is_checkpoint(name: str) -> bool:
    """Whether this is a checkpoint's name."""
    return parse_checkpoint_name(name) is not None


def rank(name: str) -> tuple[int, int]:
    """By what the newest is known: a later life of the cluster goes before more steps."""
    return parse_checkpoint_name(name) or (-1, -1)
