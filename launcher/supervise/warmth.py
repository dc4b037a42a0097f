"""Hosts that are kept warm after a run that has trained: for which runs, for how long, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from launcher.spec.model import ClusterSpec
from worker.contract import records
from worker.contract.states import RunState


class Warmth:
    """What `keep_warm` means to a coordinator. Without it, every method says that there is nothing to do."""

    def __init__(self, run: str, spec: ClusterSpec) -> None:
        self._run = run
        self._spec = spec
        self._until: dict[str, float] = {}

    def key(self, host: str, folder: str) -> str:
        """For which runs an agent may be kept: those of a spec of this name, on this host, in the same place."""
        if not self._spec.restart.keep_warm:
            return ""
        return f"{self._spec.name} {host} {folder.replace(f'/{self._run}/', '/', 1)}"

    def farewell(self, state: RunState) -> dict[str, Any]:
        """What the agents are told beside their leave. A run that was stopped, or that failed, leaves nothing."""
        keep_s = self._spec.restart.keep_warm
        return {"keep_s": keep_s} if keep_s and state is RunState.TRAINED else {}

    def heard_of(self, host: str, event: Mapping[str, Any]) -> None:
        """A record of an agent's."""
        if event.get("type") == records.ZYGOTE_KEPT:
            self._until[host] = time.time() + min(float(event.get("seconds") or 0.0), self._spec.restart.keep_warm)

    def told(self) -> str:
        """The line that says what was kept, or nothing."""
        if not self._until:
            return ""
        hosts = list(self._until)
        who = f"{hosts[0]} is" if len(hosts) == 1 else f"{len(hosts)} hosts are"
        until = time.strftime("%H:%M", time.localtime(max(self._until.values())))
        return (
            f"{who} kept warm until {until} for the next `up` of this spec; to end that now: launcher down {self._run}"
        )
