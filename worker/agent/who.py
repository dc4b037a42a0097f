"""Who an agent is, and what it knows of those before it. Pure."""

from __future__ import annotations

from typing import Any, Dict, List

from ..contract.value import Value, made


class Past(Value):
    """What the journal of this folder tells of earlier agents."""

    term: int = 0
    generation: int = 0
    seq: int = 0
    unended: Dict[int, List[int]] = made(default_factory=dict)  # generation without an end: ranks without one


class Identity(Value):
    """Who this agent is: what it says of itself in hello and journal. `token` makes its nonces its own."""

    host: str
    run: str
    pid: int
    boot_id: str
    code: str
    token: str
    more: Dict[str, Any] = made(default_factory=dict)  # for the journal only
