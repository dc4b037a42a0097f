"""Values: classes like frozen dataclasses, for what every start of an agent imports.

    class Send(Value):
        client: int
        message: Message
        more: Dict[str, Any] = made(default_factory=dict)

`dataclasses` imports a compiler's worth of modules and compiles methods for each class: ten milliseconds and more a
start, which many hosts of one user wait for. mypy takes these for dataclasses.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, FrozenSet, Mapping, Tuple

    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_):
        return lambda cls: cls


class _Made:
    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class _Hidden:
    """In the place of a default."""


def hidden() -> Any:
    """For a field that no `repr` may show, since it holds secrets; it has no default."""
    return _Hidden()


def made(*, default_factory: Callable[[], Any]) -> Any:
    """The default of a field for which each value gets a fresh object."""
    return _Made(default_factory)


@dataclass_transform(frozen_default=True, field_specifiers=(made, hidden))
class Value:
    """Its fields are those that its class, or a class above it, annotates, in that order. It cannot be changed, is
    equal to another of its class with equal fields, and hashable if they are."""

    _names: Tuple[str, ...] = ()
    _defaults: Mapping[str, Any] = {}
    _hidden: FrozenSet[str] = frozenset()

    def __init_subclass__(cls) -> None:
        fresh = cls.__dict__.get("__annotations__", {})  # noqa: RUF063 - inspect is what is not to be imported
        cls._names = (*cls._names, *(name for name in fresh if name not in cls._names))
        given = {name: cls.__dict__[name] for name in fresh if name in cls.__dict__}
        cls._hidden = cls._hidden | {name for name, value in given.items() if isinstance(value, _Hidden)}
        cls._defaults = {**cls._defaults, **{name: value for name, value in given.items() if name not in cls._hidden}}

    def __init__(self, *given: Any, **named: Any) -> None:
        names, kept = self._names, self.__dict__
        if len(given) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, and {len(given)} are given")
        kept.update(zip(names, given))  # noqa: B905 - Python 3.8 has no `strict`
        for name in names[len(given) :]:
            if name in named:
                kept[name] = named.pop(name)
            elif name in self._defaults:
                default = self._defaults[name]
                kept[name] = default.make() if isinstance(default, _Made) else default
            else:
                raise TypeError(f"{type(self).__name__} needs {name}")
        if named:
            raise TypeError(f"{type(self).__name__} does not take {', '.join(named)}")

    def __setattr__(self, name: str, _: Any) -> None:
        raise AttributeError(f"{name} of {type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._names if name not in self._hidden)
        return f"{type(self).__name__}({told})"
