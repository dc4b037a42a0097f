"""Durations, sizes, counts and names as people write them. Each function takes what stood in the file (text, or a
default's own type) and returns the value, or raises UnfitError with what was expected. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from launcher.spec.nodes import Plain

_NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)"
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TIME_WORDS = {"sec": "s", "second": "s", "m": "min", "min": "min", "minute": "min", "hour": "h", "day": "d"}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
A_TIME = "a time with its unit, such as 15 s, 5 min or 2 h"
A_SIZE = "a size with its unit, such as 200 MB or 1.5 GiB"
AN_INTERVAL = "1 epoch, 100 steps or 10 min; or a list of these"


class UnfitError(ValueError):
    """A value that a key cannot take."""

    def __init__(self, message: str, expected: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.expected, self.hint = message, expected, hint


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean epochs?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word[:80].lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def whole(lowest: int, highest: int, example: str = "") -> Callable[[Any], int]:
    """A parser for whole numbers within bounds, both included."""
    about = (
        f"a whole number from {lowest:,} to {highest:,}" if highest < 10**6 else f"a whole number from {lowest:,} up"
    )
    about += f", such as {example}" if example else ""

    def parse(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, Plain) and re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", value, re.ASCII):
            number = int(value)
        else:
            raise UnfitError("not a whole number", about, _about_odd_number(value))
        if not lowest <= number <= highest:
            raise UnfitError("too small" if number < lowest else "too large", about)
        return number

    return parse


def _about_odd_number(value: Any) -> str:
    if isinstance(value, Plain):
        if re.fullmatch(r"[-+]?0[0-9_]+", value, re.ASCII):
            return "write it without leading zeros: they would make it octal in older YAML"
        if re.fullmatch(r"[-+]?0[xob].*|[-+]?[\d_.]*\d[eE_].*", value, re.ASCII | re.IGNORECASE):
            return "write out its decimal digits"
    elif isinstance(value, str) and value.isdigit():
        return "write it without quotes"
    return ""


def number(lowest: float | None = None, highest: float | None = None) -> Callable[[Any], float]:
    """A parser for finite numbers, exponents allowed, within bounds that are both included."""
    about = "a number"
    if lowest is not None and highest is not None:
        about += f" from {lowest:g} to {highest:g}"
    elif lowest is not None or highest is not None:
        about += f", {lowest:g} or more" if lowest is not None else f", {highest:g} or less"

    def parse(value: Any) -> float:
        found = _number(value, about)
        if found < (-math.inf if lowest is None else lowest) or found > (math.inf if highest is None else highest):
            raise UnfitError("out of range", about)
        return found

    return parse


def positive(value: Any) -> float:
    """A finite number above 0, exponents allowed: 0.001, 1e-3."""
    about = "a number above 0, such as 0.001"
    found = _number(value, about)
    if found <= 0:
        raise UnfitError("out of range", about)
    return found


def _number(value: Any, about: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not (isinstance(value, Plain) and len(value) <= 40):
        raise UnfitError("not a number", about)
    if not re.fullmatch(rf"[-+]?{_NUMBER}(?:[eE][-+]?\d{{1,3}})?", value, re.ASCII):
        raise UnfitError("not a number", about)
    found = float(value)
    if not math.isfinite(found):
        raise UnfitError("out of range", about)
    return found


def truth(value: Any) -> bool:
    """true or false, and none of their many spellings elsewhere."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Plain) and value in ("true", "false"):
        return value == "true"
    hint = ""
    if isinstance(value, str) and value.lower() in ("yes", "on", "y", "true", "1"):
        hint = "write true" + (", without quotes" if value == "true" else "")
    elif isinstance(value, str) and value.lower() in ("no", "off", "n", "false", "0"):
        hint = "write false" + (", without quotes" if value == "false" else "")
    raise UnfitError("neither true nor false", "true or false", hint)


def text(value: Any) -> str:
    """Any text that is not empty. Unquoted numbers are text as they stand."""
    if not isinstance(value, str) or not value:
        raise UnfitError("not text", "text")
    return str(value)


def any_text(value: Any) -> str:
    """Text that may be empty (then in quotes)."""
    if not isinstance(value, str):
        raise UnfitError("not text", "text", 'write "" for an empty one' if value is None else "")
    return str(value)


def matching(pattern: str, expected: str, suggest: Callable[[str], str] | None = None) -> Callable[[Any], str]:
    """A parser for text of which the whole matches `pattern`."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise UnfitError("not text", expected)
        if not compiled.fullmatch(value):
            raise UnfitError("not allowed here", expected, suggest(value) if suggest else "")
        return str(value)

    return parse


def suggested_name(value: str) -> str:
    """The nearest name that a spec may have, as a hint."""
    name = re.sub(r"[^a-z0-9]+", "-", value[:80].lower()).strip("-")[:40].strip("-")
    return f"for example `{name}`" if name else ""


def one_of(*names: str) -> Callable[[Any], str]:
    """A parser for one of a few words."""
    expected = " or ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]

    def parse(value: Any) -> str:
        if isinstance(value, str) and value in names:
            return str(value)
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise UnfitError("not known", expected, hint)

    return parse


def duration(value: Any) -> float:
    """Seconds, above 0 and at most a year: `90 s`, `5 min`, `1 h 30 min`."""
    if isinstance(value, str) and len(value) <= 60:
        parts = re.findall(rf"\s*({_NUMBER})\s*([A-Za-z]+)\s*", value, re.ASCII)
        if parts and re.fullmatch(rf"(?:\s*{_NUMBER}\s*[A-Za-z]+\s*)+", value, re.ASCII):
            seconds = sum(float(number) * _SECONDS[_time_unit(unit)] for number, unit in parts)
            if not 0 < seconds <= 366 * 86400:
                raise UnfitError("out of range", "a time above 0 and at most 366 d")
            return seconds
    bare = isinstance(value, str) and re.fullmatch(_NUMBER, value[:60], re.ASCII)
    raise UnfitError("no unit" if bare else "not a time", A_TIME, f"for seconds write `{value} s`" if bare else "")


def duration_or_off(value: Any) -> float:
    """As `duration`; 0 for `off`."""
    if value == "off":
        return 0.0
    try:
        return duration(value)
    except UnfitError as error:
        raise UnfitError(error.message, f"{error.expected}, or off", error.hint) from error


def _time_unit(word: str) -> str:
    unit = word.lower()
    if unit in _SECONDS:
        return unit
    word = unit.removesuffix("s") if len(unit) > 2 else unit
    if word in _TIME_WORDS:
        return _TIME_WORDS[word]
    raise UnfitError("an unknown unit", f"{A_TIME}; units: {', '.join(_SECONDS)}")


def size(value: Any) -> int:
    """Bytes: `200 MB` (decimal), `1.5 GiB` (binary)."""
    if isinstance(value, str) and len(value) <= 40:
        found = re.fullmatch(rf"\s*({_NUMBER})\s*([A-Za-z]+)\s*", value, re.ASCII)
        if found:
            factor = _BYTES.get(found[2].lower())
            if factor is None:
                raise UnfitError("an unknown unit", f"{A_SIZE}; units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB")
            count = float(found[1]) * factor
            if not 1 <= count <= 2**60:
                raise UnfitError("out of range", "a size of at least 1 B")
            return round(count)
    raise UnfitError("not a size", A_SIZE)


def ports(value: Any) -> tuple[int, int]:
    """The first and the last port of a range: `20000-20099`, or one port."""
    expected = "a range of ports such as 20000-20099, within 1024-65535"
    found = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", value, re.ASCII) if isinstance(value, str) else None
    if not found:
        raise UnfitError("not a range of ports", expected)
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1024 <= first <= last <= 65535:
        raise UnfitError("the range ends before it begins" if first > last else "out of range", expected)
    return first, last


def gpus(value: Any) -> str | int | tuple[int, ...]:
    """`free`, `all`, how many, or which ones."""
    expected = "free, all, a number, or a list such as [0, 1]"
    if value in ("free", "all"):
        return str(value)
    if isinstance(value, list):
        index = whole(0, 1023)
        try:
            chosen = tuple(index(item) for item in value)
        except UnfitError as error:
            raise UnfitError("a list of something else than GPU numbers", expected) from error
        if len(set(chosen)) != len(chosen):
            raise UnfitError("a GPU is named twice", expected)
        return chosen
    try:
        return whole(0, 1024)(value)
    except UnfitError as error:
        raise UnfitError(error.message if "too" in error.message else "not known", expected, error.hint) from error


def network(value: Any) -> str:
    """An IPv4 or IPv6 network: `10.0.0.0/24`."""
    expected = "a network such as 10.0.0.0/24"
    if not isinstance(value, str) or "/" not in value[:60]:
        raise UnfitError("not a network", expected)
    try:
        return str(ipaddress.ip_network(str(value), strict=True))
    except ValueError as error:
        try:
            whole_network = str(ipaddress.ip_network(str(value), strict=False))
        except ValueError:
            raise UnfitError("not a network", expected) from error
        raise UnfitError("an address within a network", expected, f"the network is {whole_network}") from error


def intervals(value: Any) -> dict[str, float]:
    """When to save, by unit: {"epochs": 1, "seconds": 600.0}. A bare number counts epochs."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise UnfitError("an empty list", AN_INTERVAL)
    found: dict[str, float] = {}
    for item in items:
        unit, amount = _interval(item)
        if unit in found:
            raise UnfitError(f"{unit} are given twice", AN_INTERVAL)
        found[unit] = amount
    return found


def _interval(value: Any) -> tuple[str, float]:
    if not isinstance(value, str) or not value:
        raise UnfitError("not an interval", AN_INTERVAL)
    found = re.fullmatch(r"\s*(\d{1,9})\s*(?:(epoch|step)s?)?\s*", value, re.ASCII)
    if found:
        if int(found[1]) < 1:
            raise UnfitError("too small", AN_INTERVAL)
        return (found[2] or "epoch") + "s", int(found[1])
    try:
        return "seconds", duration(value)
    except UnfitError as error:
        raise UnfitError("not an interval", AN_INTERVAL) from error
