"""Full disks of hosts, as their agents tell of them: a line for a person when it begins, one when it is over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.supervise.core.journals import Journals
from worker.contract import records


class Disks:
    """`folders`: where the run is on each host."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = dict(folders)
        self._journals = Journals()
        self._full: set[str] = set()

    def heard_of(self, host: str, event: Mapping[str, Any]) -> str:
        """What a person should know of an agent's record; nothing for most, and for one that was heard before."""
        kind = event.get("type")
        if kind not in (records.DISK_FULL, records.DISK_ROOM) or not self._journals.is_news(host, event):
            return ""
        if kind == records.DISK_ROOM:
            self._full.discard(host)
            return f"{host}: there is room on its disk again"
        self._full.add(host)
        why = str(event.get("message", "no space left"))
        return f"{host}: its disk is full ({why}); training goes on if it can. {self._next(host)}"

    def hint(self, host: str) -> str:
        """The next step, if what went wrong on a host may come of its full disk."""
        return f"its disk is full. {self._next(host)}, then `launcher resume`" if host in self._full else ""

    def _next(self, host: str) -> str:
        where = self._folders.get(host, "")
        return f"Make room there (`df -h {where}`; `launcher clean` removes old runs)"
