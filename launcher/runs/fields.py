"""Reading a record's fields without trusting them: a journal that came from a host can hold any JSON."""

from __future__ import annotations

import math

from worker.contract.records import Record

_MAX_INTEGER = 1 << 53
_MAX_TEXT = 10_000


def integer(record: Record, key: str) -> int | None:
    """A whole number of a sane size, or None."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INTEGER:
        return value
    return None


def number(record: Record, key: str) -> float | None:
    """A finite number, or None."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        return None
    return float(value) if math.isfinite(value) else None


def text(record: Record, key: str) -> str:
    """A string, cut at 10,000 characters; empty when there is none."""
    value = record.get(key)
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


def texts(record: Record, key: str, most: int = 100) -> tuple[str, ...]:
    """The strings of a list, at most `most` of them."""
    value = record.get(key)
    if not isinstance(value, list):
        return ()
    return tuple(item[:_MAX_TEXT] for item in value[:most] if isinstance(item, str))


def numbers(record: Record, key: str, most: int = 128) -> dict[str, float | None]:
    """The numbers of an object by their names, at most `most` of them; None for what is not finite or no number."""
    value = record.get(key)
    if not isinstance(value, dict):
        return {}
    return {name[:64]: number(value, name) for name in list(value)[:most] if isinstance(name, str)}


def objects(record: Record, key: str, most: int = 10_000) -> list[Record]:
    """The objects of a list, at most `most` of them."""
    value = record.get(key)
    if not isinstance(value, list):
        return []
    return [item for item in value[:most] if isinstance(item, dict)]
