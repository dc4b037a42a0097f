"""Collects what is wrong with a spec, each thing with its line; turns pydantic's errors into the family's own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin

from launcher.errors import Problem, SpecError
from launcher.spec.keys import Keys
from launcher.spec.nodes import Loc, Node, descend, described, dotted
from launcher.spec.schema import Spec
from launcher.spec.values import UnfitError, did_you_mean

MOST = 100  # problems shown; the rest is only counted


class Report:
    """Every problem of one spec. `root` is the tree in which a path's line is looked up."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self._problems: list[tuple[tuple[bool, str, int], Problem]] = []

    def add(self, loc: Loc, message: str, *, expected: str = "", found: str = "", hint: str = "") -> None:
        """A problem at `loc`; where no node stands there (a missing key), at the mapping that should hold it."""
        node = list(descend(self.root, loc))[-1]
        problem = Problem(node.where, dotted(loc) or "the file", message, expected, found, hint)
        self._problems.append(((node.line == 0, node.source, node.line), problem))

    def has(self, loc: Loc) -> bool:
        """True if something is wrong at `loc` already, so that what stands in for its value proves nothing."""
        return any(problem.path == dotted(loc) for _, problem in self._problems)

    def include(self, problems: Iterable[Problem]) -> None:
        """Problems that know their line already."""
        for problem in problems:
            source, _, line = problem.where.rpartition(":")
            order = (False, source, int(line)) if source and line.isdecimal() else (True, problem.where, 0)
            self._problems.append((order, problem))

    def raise_if_any(self) -> None:
        """Raises SpecError with everything that was added, in the order of the file's lines; `--set` comes last."""
        if not self._problems:
            return
        problems = [problem for _, problem in sorted(self._problems, key=lambda item: item[0])]
        more = len(problems) - MOST
        raise SpecError(problems[:MOST], hint=f"mend these first: there are {more:,} more" if more > 0 else "")

    def add_pydantic(self, error: Mapping[str, Any]) -> None:
        """One of ValidationError.errors()."""
        loc: Loc = tuple(error["loc"])
        kind, value = error["type"], error["input"]
        if loc and loc[-1] == "[key]":
            loc = loc[:-1]
        if kind == "extra_forbidden":
            self._unknown_key(loc)
        elif kind == "missing":
            model = model_at(loc[:-1])
            prose = model.model_fields[str(loc[-1])].description if model else ""
            self.add(loc, "missing", expected=prose or "a value")
        else:
            known = len(list(descend(self.root, loc))) - 1  # a short form has no nodes for what it stands for
            reason = error.get("ctx", {}).get("error")
            if isinstance(reason, UnfitError):
                message, expected, hint = reason.message, reason.expected, reason.hint
            else:
                message, expected, hint = _WORDS.get(kind, (str(error["msg"]), "", ""))
            self.add(loc[:known], message, expected=expected, found=described(value), hint=hint)

    def _unknown_key(self, loc: Loc) -> None:
        model, key = model_at(loc[:-1]), str(loc[-1])
        known = list(model.model_fields) if model else []
        elsewhere = [
            section
            for section in Spec.model_fields
            if (inner := model_at((section,))) and inner is not model and key in inner.model_fields
        ]
        hint = did_you_mean(key, known)
        if not hint and elsewhere:
            hint = f"`{key}` stands under {' or '.join(elsewhere)}"
        self.add(loc, "unknown key", expected=f"one of {', '.join(known)}", hint=hint)


_WORDS = {
    "list_type": ("not a list", "a list, such as [a, b]", ""),
    "dict_type": ("not a mapping", "a mapping: KEY: VALUE", ""),
}


def model_at(loc: Loc) -> type[Keys] | None:
    """Which mapping of the schema stands at a path, or None."""
    kind: Any = Spec
    for part in loc:
        if isinstance(part, int):
            arguments = get_args(kind) if get_origin(kind) is list else ()
            kind = arguments[0] if arguments else None
        else:
            model = as_model(kind)
            fields = model.model_fields if model else {}
            kind = fields[part].annotation if part in fields else None
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
    return as_model(kind)


def as_model(kind: Any) -> type[Keys] | None:
    """A type as a mapping of the schema, or None."""
    # Python 3.10 takes list[str] for a class, and issubclass() then refuses it.
    return kind if get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, Keys) else None
