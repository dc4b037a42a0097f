"""What may be taken over from a progress file: its writer may be any program, so its content is bounded here. Pure."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ..contract.records import Record

MOST_FIELDS = 48
MOST_TEXT = 2000
TABLE = "metrics"  # the one field that may hold numbers by name
MOST_NUMBERS = 128
_OURS = ("t", "type", "seq", "generation", "rank")


def fields_of(record: Record) -> Dict[str, Any]:
    """The record's plain fields: numbers, short texts, true, false and null; those that the agent sets are left out.

    Of `metrics`, the numbers by their names.
    """
    taken: Dict[str, Any] = {}
    for key, value in record.items():
        if len(taken) == MOST_FIELDS:
            break
        if key not in _OURS and len(key) <= 64 and _plain(value):
            taken[key] = value[:MOST_TEXT] if isinstance(value, str) else value
        elif key == TABLE and isinstance(value, dict):
            taken[key] = _numbers(value)
    return taken


def number(value: Any) -> Optional[int]:
    """A whole number from 0 on that 63 bits can hold, or None."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    return None


def file_name(value: Any) -> str:
    """A plain file name, or nothing."""
    if isinstance(value, str) and 0 < len(value) <= 200 and "/" not in value and "\0" not in value:
        return "" if value in (".", "..") else value
    return ""


def _numbers(table: Dict[str, Any]) -> Dict[str, Any]:
    fit = {name: value for name, value in table.items() if len(name) <= 64 and _plain(value)}
    plain = [(name, value) for name, value in fit.items() if not isinstance(value, (str, bool))]
    return dict(plain[:MOST_NUMBERS])


def _plain(value: Any) -> bool:
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return value is None or isinstance(value, (str, float))
