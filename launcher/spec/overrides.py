"""`--set train.epochs=2`: one value of the tree replaced, before anything is checked. Pure."""

from __future__ import annotations

import dataclasses
import re

from launcher.errors import Problem
from launcher.spec.compose import compose
from launcher.spec.nodes import MAX_BYTES, Loc, Node, Plain, branch, dotted, shown

_KEY = r"[A-Za-z_][\w-]*(?:\[\d{1,6}\])*"
_PATH = re.compile(rf"{_KEY}(?:\.{_KEY})*", re.ASCII)
A_SETTING = "KEY=VALUE, such as train.epochs=2 or hosts[0].gpus=[0,1]"


class OverrideError(Exception):
    """An override that cannot be applied."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems


def parse(text: str) -> tuple[Loc, Node]:
    """The path and the value of one `--set`. A value is YAML, as it would stand in the file. Raises OverrideError."""
    key, equals, value = text.partition("=")
    key = key.strip()
    source = f"--set {key if len(key) <= 80 and key.isprintable() else shown(key)}"
    if not equals:
        raise OverrideError(Problem(source, "the command line", "no value", A_SETTING))
    if len(key) > 400 or not _PATH.fullmatch(key):
        raise OverrideError(Problem(source, "the command line", "not a key", A_SETTING))
    loc: Loc = tuple(int(part) if part.isdigit() else part for part in re.findall(r"[A-Za-z_][\w-]*|\d+", key))
    if len(value) > MAX_BYTES:
        raise OverrideError(Problem(source, dotted(loc), "the value is too long", f"at most {MAX_BYTES:,} characters"))
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise OverrideError(Problem(source, dotted(loc), "the value is not UTF-8", A_SETTING)) from None
    node, problems = compose(value, source, lines=False, at=loc)
    if problems:
        raise OverrideError(*problems)
    return loc, node or Node(source, 0, None)


def apply(root: Node, loc: Loc, value: Node, done: Loc = ()) -> Node:
    """The tree with `value` at `loc`; mappings on the way are made where there are none. Raises OverrideError."""
    if not loc:
        return value
    part, rest, here = loc[0], loc[1:], dotted(done)
    if isinstance(part, int):
        items = root.content if isinstance(root.content, list) else None
        if items is None:
            raise _refused(value, done, f"{here} is not a list", "a list there, to take an item of")
        if part >= len(items):
            raise _refused(value, done, f"{here} has {len(items)} items", f"a number below {len(items)}, from 0")
        changed = apply(items[part], rest, value, (*done, part))
        return branch(root.source, root.line, [*items[:part], changed, *items[part + 1 :]])
    keys = _mapping(root, done)
    if keys is None:
        raise _refused(value, done, f"{here} is not a mapping", f"a mapping there, to set `{part}` in")
    inner = keys.get(part, Node(value.source, value.line, None))
    if inner.content is None and rest and isinstance(rest[0], str):
        inner = dataclasses.replace(inner, content={})
    changed = apply(inner, rest, value, (*done, part))
    return branch(root.source, root.line, {**keys, part: changed})


def _mapping(node: Node, loc: Loc) -> dict[str, Node] | None:
    """What a key is set in: a mapping, or a host that is written as its alias alone."""
    if isinstance(node.content, str) and len(loc) == 2 and loc[0] == "hosts":
        alias = dataclasses.replace(node)
        if node.content == "localhost":
            return {"local": dataclasses.replace(node, content=Plain("true"))}
        return {"ssh": alias}
    if node.content is None:
        return {}
    return node.content if isinstance(node.content, dict) else None


def _refused(value: Node, loc: Loc, message: str, expected: str) -> OverrideError:
    return OverrideError(Problem(value.where, dotted(loc) or "the file", message, expected))
