"""YAML text → Node, from the parser's events alone: no constructor is ever run, and everything is bounded."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import yaml

from launcher.errors import Problem
from launcher.spec.nodes import MAX_DEPTH, MAX_NODES, Loc, Node, Plain, branch, dotted, shown

# libyaml's, seven times as fast: many hosts are many lines. Errors are told by the other one, in its words.
_FAST: Any = getattr(yaml, "CSafeLoader", None)
_NULLS = {"", "~", "null", "Null", "NULL"}


class _StopError(Exception):
    """The document cannot be followed any further."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def compose(text: str, source: str, *, lines: bool = True, at: Loc = ()) -> tuple[Node | None, list[Problem]]:
    """The document's root (None: it is empty, or not YAML) and what is wrong with it as YAML.

    `lines=False` is for a value from the command line, `at` for a document that belongs elsewhere in the spec.
    """
    if _FAST is not None and _is_plain(text):
        composer = _Composer(text, source, lines, at, _FAST)
        with contextlib.suppress(_StopError, yaml.YAMLError, ValueError, OverflowError):
            return composer.document(), composer.problems
    composer = _Composer(text, source, lines, at, yaml.SafeLoader)
    try:
        return composer.document(), composer.problems
    except _StopError as stop:
        return None, [*composer.problems, stop.problem]
    # The scanner lets a few of Python's own errors through: chr() of a wild escape, int() of a wild %YAML version.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        return None, [*composer.problems, composer.explain(error)]


def _is_plain(text: str) -> bool:
    """Whether both parsers surely read it alike: no tabs, directives, complex keys or rare characters."""
    return not any(c in text for c in "\t%?") and text.replace("\n", "").isprintable()


class _Composer:
    def __init__(self, text: str, source: str, lines: bool, at: Loc, loader: Any) -> None:
        self._text, self._source, self._lines, self._at = text, source, lines, at
        self._events: Iterator[Any] = yaml.parse(text, Loader=loader)
        self._anchors: dict[str, Node | None] = {}  # None: still open
        self._line = 1
        self.problems: list[Problem] = []

    def document(self) -> Node | None:
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        root = self._node(self._next(), self._at)
        self._next()
        if not isinstance(self._next(), yaml.StreamEndEvent):
            raise _StopError(
                self._problem((), "a second document begins here", expected="one document: no second `---`")
            )
        return None if root.content is None else root

    def explain(self, error: Exception) -> Problem:
        """A parser's error as a problem with its line and, for the usual slips, the cure."""
        message, hint = str(error), ""
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if isinstance(error, yaml.MarkedYAMLError):
            message = ", ".join(part for part in (error.problem, error.context) if part)
        elif isinstance(error, yaml.reader.ReaderError):
            self._line = self._text.count("\n", 0, error.position) + 1
            message = f"the character U+{ord(self._text[error.position]):04X} is not allowed in YAML"
        if mark is not None:
            self._line = mark.line + 1
        if "'\\t'" in message:
            hint = "indent with spaces: YAML takes no tabs there"
        elif "mapping values are not allowed" in message:
            hint = "look at the line's indentation, and put text that has `: ` in it in quotes"
        elif "expected ',' or" in message:
            hint = "a bracket or brace is not closed, or a comma is missing"
        return self._problem((), f"not valid YAML: {message}", hint=hint)

    def _next(self) -> Any:
        event = next(self._events)
        self._line = event.start_mark.line + 1
        return event

    def _problem(self, loc: Loc, message: str, **more: str) -> Problem:
        where = f"{self._source}:{self._line}" if self._lines else self._source
        return Problem(where, dotted(loc or self._at) or "the file", message, **more)

    def _make(self, content: str | None) -> Node:
        return Node(self._source, self._line if self._lines else 0, content)

    def _node(self, event: Any, loc: Loc) -> Node:
        if len(loc) > MAX_DEPTH:
            raise _StopError(self._problem(loc[:4], "nested too deeply", expected=f"{MAX_DEPTH} levels at most"))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), loc)
        if event.anchor:
            self._anchors[event.anchor] = None
        if event.tag is not None:
            tag = shown(event.tag)
            self.problems.append(
                self._problem(loc, f"the tag {tag} is not taken", expected="the plain value, without a tag")
            )
        if isinstance(event, yaml.ScalarEvent):
            node = self._make(self._scalar(event, loc))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(loc)
        else:
            node = self._mapping(loc)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, name: str, loc: Loc) -> Node:
        anchor = self._anchors.get(name)
        if anchor is None:
            why = "stands inside of what it names" if name in self._anchors else "names no anchor before it"
            raise _StopError(
                self._problem(loc, f"the alias {shown('*' + name)} {why}", expected="an anchor that is whole")
            )
        if len(loc) + anchor.height > MAX_DEPTH:
            raise _StopError(self._problem(loc[:4], "nested too deeply", expected=f"{MAX_DEPTH} levels at most"))
        return anchor

    def _scalar(self, event: Any, loc: Loc) -> str | None:
        text: str = event.value
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            self.problems.append(self._problem(loc, "text that no file name or variable can hold", found=shown(text)))
            text = ""
        if event.style:
            return text
        return None if text in _NULLS else Plain(text)

    def _sequence(self, loc: Loc) -> Node:
        line, items = self._line, list[Node]()
        size = 1
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            line_of_item = self._line
            item = self._node(event, (*loc, len(items)))
            items.append(self._placed(item, line_of_item))
            size = self._counted(size + item.size, loc)
        return branch(self._source, line if self._lines else 0, items)

    def _mapping(self, loc: Loc) -> Node:
        line, items = self._line, dict[str, Node]()
        size = 1
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line_of_key = self._line
            key = self._key(event, loc)
            value = self._node(self._next(), (*loc, "<<" if key is None else key))
            size = self._counted(size + value.size, loc)
            if key is None:
                continue
            if key in items:
                self._line = line_of_key
                first = f"the same key at {items[key].where}" if self._lines else "the same key before it"
                self.problems.append(self._problem((*loc, key), "the key is given twice", found=first))
            else:
                # The key's line, not the value's: a mapping under it begins a line later.
                items[key] = self._placed(value, line_of_key)
        return branch(self._source, line if self._lines else 0, items)

    def _key(self, event: Any, loc: Loc) -> str | None:
        """A mapping's key, or None for one that cannot be one (which is then a problem)."""
        line = self._line
        node = self._node(event, (*loc, "key"))
        self._line = line
        if isinstance(node.content, Plain) and node.content == "<<":
            hint = "what hosts share goes into host_defaults"
            self.problems.append(self._problem(loc, "merge keys (`<<`) are not taken", hint=hint))
            return None
        if not isinstance(node.content, str):
            self.problems.append(self._problem(loc, "a key that is not a word", expected="KEY: VALUE"))
            return None
        return str(node.content)

    def _placed(self, node: Node, line: int) -> Node:
        line = line if self._lines else 0
        return node if node.line == line else dataclasses.replace(node, line=line)

    def _counted(self, size: int, loc: Loc) -> int:
        if size > MAX_NODES:
            raise _StopError(
                self._problem(loc[:4], "too many values, aliases counted in", expected=f"{MAX_NODES:,} at most")
            )
        return size
