"""The one table of what the spec knows already and the launcher cannot do yet. A line goes when its feature comes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from launcher.spec.nodes import Loc

# Path → None: the key as a whole; or a pattern of the values that are meant. `[]` stands for every item.
LATER: dict[str, str | None] = {
    "program.mirrored": None,
    "program.keras_repair": None,
    "program.resume": None,
    "program.one_seed": None,
}


def take_out(values: dict[str, Any]) -> list[tuple[Loc, Any]]:
    """Removes from `values` all that is not available yet; returns where it stood and what it was."""
    taken = []
    for path, pattern in LATER.items():
        for holder, loc in list(_holders(values, path.split("."), ())):
            key = str(loc[-1])
            value = holder.get(key)
            if value is None or (pattern and not _matches(pattern, value)):
                continue
            taken.append((loc, holder.pop(key)))
    for loc, _ in taken:
        _drop_emptied(values, loc[:-1])
    return taken


def _drop_emptied(values: Any, loc: Loc) -> None:
    """A mapping from which everything was taken would only bring a second problem."""
    holder = values
    for part in loc[:-1]:
        holder = holder[part] if isinstance(part, int) else holder.get(part, {})
    if loc and isinstance(holder, dict) and holder.get(str(loc[-1])) == {}:
        holder.pop(str(loc[-1]))


def _matches(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL) is not None


def _holders(value: Any, parts: list[str], loc: Loc) -> Iterator[tuple[dict[str, Any], Loc]]:
    """Each mapping that may hold the last key of the path, with the whole path to that key."""
    if not isinstance(value, dict):
        return
    name, each = parts[0].removesuffix("[]"), parts[0].endswith("[]")
    if len(parts) == 1:
        yield value, (*loc, name)
    elif each:
        items = value.get(name)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            yield from _holders(item, parts[1:], (*loc, name, index))
    else:
        yield from _holders(value.get(name), parts[1:], (*loc, name))
