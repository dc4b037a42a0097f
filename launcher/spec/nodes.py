"""The tree of a YAML document in which every value knows its line. Plain values: no parser, no types yet.

Nothing is typed here: a scalar is text, and what it means is decided by the key that it stands under. So `3.10` stays
"3.10" where text is wanted, and `yes` is never silently true.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24
MAX_NODES = 20_000  # over all aliases spelled out

Loc = tuple[str | int, ...]


class Plain(str):
    """Text that stood without quotes: only this may be read as a number or as true and false."""

    __slots__ = ()


@dataclass(frozen=True)
class Node:
    """One value. `source` is the file as the user named it, or `--set KEY` (its `line` is 0)."""

    source: str
    line: int
    content: str | list[Node] | dict[str, Node] | None
    size: int = 1  # nodes below and with this one, aliases spelled out
    height: int = 1

    @property
    def where(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source

    def child(self, key: str | int) -> Node | None:
        """The node under a key or an index, or None."""
        if isinstance(self.content, dict) and isinstance(key, str):
            return self.content.get(key)
        if isinstance(self.content, list) and isinstance(key, int) and 0 <= key < len(self.content):
            return self.content[key]
        return None

    def value(self) -> Any:
        """Fresh dicts, lists, text and None. `height` is bounded where nodes are made, so this cannot overflow."""
        if isinstance(self.content, dict):
            return {key: node.value() for key, node in self.content.items()}
        if isinstance(self.content, list):
            return [node.value() for node in self.content]
        return self.content


def branch(source: str, line: int, content: list[Node] | dict[str, Node]) -> Node:
    """A node over others, its size and height counted."""
    below = list(content.values() if isinstance(content, dict) else content)
    size = 1 + sum(node.size for node in below)
    return Node(source, line, content, size, 1 + max((node.height for node in below), default=0))


def descend(root: Node, loc: Loc) -> Iterator[Node]:
    """The nodes from `root` along `loc`, as far as they exist. At least the root."""
    node: Node | None = root
    yield root
    for key in loc:
        node = node.child(key) if node else None
        if node is None:
            return
        yield node


def dotted(loc: Loc) -> str:
    """A path as users write it: `hosts[1].gpus`. Odd keys are shown escaped."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(r"[\w-]{1,60}", part, re.ASCII) else shown(part))
    return text


def shown(text: str, limit: int = 60) -> str:
    """Text of a file made fit for a message: escaped, in quotes, not longer than a line."""
    if len(text) > limit:
        return f"{json.dumps(text[:limit])}… ({len(text):,} characters)"
    return json.dumps(text, ensure_ascii=not text.isprintable())


def described(value: Any) -> str:
    """What was found, for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, Plain):
        return str(value) if len(value) <= 60 and value.isprintable() else shown(value)
    if isinstance(value, str):
        return f"{shown(value)} in quotes"
    if isinstance(value, list):
        return f"a list of {len(value):,}" if value else "an empty list"
    if isinstance(value, dict):
        keys = ", ".join(dotted((key,)) for key in list(value)[:4])
        return f"a mapping with the key{'s' * (len(value) > 1)} {keys}{', …' * (len(value) > 4)}" if value else "{}"
    return str(value)
