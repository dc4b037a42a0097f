"""How far each host's journal has been heard: over every new stream its records are told again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Journals:
    """By host, the number of the newest record that was handled."""

    def __init__(self) -> None:
        self._heard: dict[str, int] = {}

    def __contains__(self, host: str) -> bool:
        return host in self._heard

    def from_the_beginning(self, hosts: Iterable[str]) -> None:
        """All that their journals hold is to be told."""
        self._heard = dict.fromkeys(hosts, 0)

    def since(self, host: str, newest: int, *, of_interest: bool) -> int:
        """From where on a host is to tell its journal, whose newest record is `newest`.

        Of one that is heard for the first time only what is to come, unless what it holds is `of_interest`.
        """
        since = self._heard.setdefault(host, 0 if of_interest else newest)
        if newest < since:  # another journal: the host has lost its folder
            since = self._heard[host] = 0
        return since

    def is_news(self, host: str, event: Mapping[str, Any]) -> bool:
        """False for a record that was handled before. A record without a number is always news."""
        seq = event.get("seq")
        if not isinstance(seq, int):
            return True
        if seq <= self._heard.get(host, 0):
            return False
        self._heard[host] = seq
        return True
