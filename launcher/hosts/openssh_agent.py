"""An ssh-agent that takes connections and never answers would hold up the system's ssh for ever: it is left out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from launcher.hosts.agent import Agent, AgentError

_ANSWER_S = 3.0
_AGAIN_S = 60.0  # for so long one that has not answered is not asked again


class _Agents:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mute: dict[str, float] = {}

    def is_mute(self, path: str) -> bool:
        with self._lock:  # so that many hosts wait once
            if time.monotonic() - self._mute.get(path, -_AGAIN_S) < _AGAIN_S:
                return True
            self._mute.pop(path, None)
            try:
                agent = Agent(path, timeout_s=_ANSWER_S)
            except AgentError:
                return False  # nobody is there, which ssh finds out at once
            try:
                agent.list_keys()
            except AgentError:
                self._mute[path] = time.monotonic()
            finally:
                agent.close()
            return path in self._mute


_agents = _Agents()


def mute_agent(settings: Mapping[str, str]) -> str:
    """The socket of the agent that ssh would ask, if nothing sensible comes from there; else nothing. Blocks 3 s."""
    named = settings.get("identityagent", "SSH_AUTH_SOCK")
    if named == "none" or "%" in named:
        return ""
    variable = named.removeprefix("$")
    path = os.environ.get(variable, "") if named != variable or named == "SSH_AUTH_SOCK" else named
    path = str(Path(path).expanduser()) if path else ""
    return path if path and _agents.is_mute(path) else ""
