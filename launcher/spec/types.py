"""The types of a spec's values: how each is read from text, and what an editor is told about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic_core import core_schema

from launcher.spec import values

NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}"
A_NAME = "letters, digits, `.`, `_` and `-`, at most 63, not beginning with `.` or `-`"
_ADDRESS = r"[A-Za-z0-9\[][A-Za-z0-9._:%\]-]{0,252}"
_LOGIN = r"[A-Za-z0-9_][A-Za-z0-9._@:-]{0,252}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,200}"
_FUNCTION = r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*"
_JOB = r"[a-z0-9][a-z0-9-]{0,39}"
DATASETS = ("fashion-mnist-mini", "fashion-mnist", "mnist")


class Read:
    """In an Annotated type: `parse` makes the value (or raises UnfitError), `kind` says in a word or two what it is,
    `schema` is its JSON Schema."""

    def __init__(self, parse: Callable[[Any], Any], kind: str, **schema: Any) -> None:
        self.parse, self.kind, self.schema = parse, kind, schema

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return dict(self.schema)


class OneOf(Read):
    """One of a few words."""

    def __init__(self, *names: str) -> None:
        super().__init__(values.one_of(*names), " or ".join(f"`{name}`" for name in names), enum=list(names))


class Short:
    """In an Annotated mapping: the short forms that JSON Schema allows beside the mapping itself."""

    def __init__(self, *schemas: dict[str, Any]) -> None:
        self.schemas = schemas

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [*self.schemas, handler(core)]}


class Bound(Read):
    """A finite number within bounds, both included."""

    def __init__(self, lowest: float | None = None, highest: float | None = None) -> None:
        bounds = {"minimum": lowest, "maximum": highest}
        schema = {name: bound for name, bound in bounds.items() if bound is not None}
        super().__init__(values.number(lowest, highest), "number", type="number", **schema)


def _whole(lowest: int, highest: int, example: str = "") -> Read:
    return Read(values.whole(lowest, highest, example), "whole number", type="integer", minimum=lowest, maximum=highest)


def _matching(kind: str, pattern: str, expected: str, suggest: Callable[[str], str] | None = None) -> Read:
    return Read(values.matching(pattern, expected, suggest), kind, type="string", pattern=f"^{pattern}$")


def _model(value: Any) -> str:
    if isinstance(value, str) and ":" in value:
        return values.matching(_FUNCTION, "cnn, or package.module:function")(value)
    return values.one_of("cnn")(value)


Count = Annotated[int, _whole(1, 10**12, "1000")]
CountOrNone = Annotated[int, _whole(0, 10**12)]
Few = Annotated[int, _whole(1, 1024)]
Seed = Annotated[int, _whole(0, 2**31 - 1)]
Port = Annotated[int, _whole(1, 65535)]
Positive = Annotated[float, Read(values.positive, "number", type="number", exclusiveMinimum=0)]
Number = Annotated[float, Bound()]
Share = Annotated[float, Bound(0, 1)]
Truth = Annotated[bool, Read(values.truth, "`true` or `false`", type="boolean")]
Text = Annotated[str, Read(values.text, "text", type="string", minLength=1)]
Argument = Annotated[str, Read(values.any_text, "text", type=["string", "number", "boolean"])]
Duration = Annotated[float, Read(values.duration, "time", type="string")]
DurationOrOff = Annotated[float, Read(values.duration_or_off, "`off` or time", type=["string", "boolean"])]
Size = Annotated[int, Read(values.size, "size", type="string")]
Ports = Annotated[tuple[int, int], Read(values.ports, "ports", type=["string", "integer"])]
Network = Annotated[str, Read(values.network, "network", type="string")]
Gpus = Annotated[
    Any,
    Read(
        values.gpus,
        "`free`, `all`, number or list",
        anyOf=[
            {"enum": ["free", "all"]},
            {"type": "integer", "minimum": 0},
            {"type": "array", "items": {"type": "integer", "minimum": 0}, "uniqueItems": True},
        ],
    ),
]
_AN_INTERVAL: dict[str, Any] = {"type": ["string", "integer"]}
Intervals = Annotated[
    Any,
    Read(
        values.intervals,
        "interval or list",
        anyOf=[_AN_INTERVAL, {"type": "array", "items": _AN_INTERVAL, "minItems": 1}],
    ),
]
JobName = Annotated[
    str,
    _matching(
        "name", _JOB, "lower-case letters, digits and `-`, at most 40, a letter or digit first", values.suggested_name
    ),
]
HostName = Annotated[str, _matching("name", NAME, A_NAME)]
Alias = Annotated[str, _matching("alias", NAME, "an alias of ~/.ssh/config, or {host: ADDRESS, user: …}")]
Address = Annotated[str, _matching("address", _ADDRESS, "a host's name or address, such as 10.0.0.12")]
HostKeys = Annotated[
    str,
    _matching(
        "text",
        r"(known|accept-new|SHA256:[A-Za-z0-9+/]{43})",
        "known, accept-new, or a fingerprint: SHA256:… as ssh-keygen -l tells it",
    ),
]
Login = Annotated[str, _matching("text", _LOGIN, "a name, or [user@]host[:port]")]
Variable = Annotated[str, _matching("name", _VARIABLE, "a variable's name: letters, digits and `_`")]
ModelName = Annotated[str, Read(_model, "`cnn` or function", type="string")]
FunctionName = Annotated[str, _matching("function", _FUNCTION, "package.module:function")]
DatasetName = Annotated[str, OneOf(*DATASETS)]
