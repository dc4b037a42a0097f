"""What staging has done on the hosts, as far as facts depend on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Staged:
    """Where things are on the hosts, by host name; what is left out is where staging would bring it."""

    codes: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # what `activate:` sets …
    gone: Mapping[str, Sequence[str]] = field(default_factory=dict)  # … and what it takes away


NOTHING = Staged()
