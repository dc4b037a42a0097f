"""Where a run is between two generations, as its supervisor sees it."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where a generation is, as seen from here."""

    REACHING = "hosts are reached; when all obey, the ranks are started"
    RUNNING = "the ranks have been started, and not every host's part is over"
    PAUSING = "it has failed, and nothing is done for a while"
    RECOVERING = "hosts that were lost are looked for"
    PLANNING = "the next generation is being planned"
