"""Whether agent and zygote are to outlive the run, for the next one. Pure: of the agent's core.

Only where the run was trained and nothing at all went wrong on this host: whoever has seen a failure starts afresh.
"""

from __future__ import annotations

from typing import Union

from ..contract import records
from . import events
from .events import Keep, Outbox
from .generation import Generation
from .told import MOST_TEXT


class Keeping:
    """The zygote's news go through here, and what became of the wish to keep it."""

    def __init__(self, out: Outbox) -> None:
        self._out = out
        self._sound = True
        self._seconds = 0.0
        self.asked = False  # and not answered yet

    def ended(self, generation: Generation) -> None:
        """A generation of this agent is over."""
        self._sound = self._sound and generation.flawless

    def wish(self, seconds: float, generation: Union[Generation, None]) -> None:
        """Whoever commands wants it to stay, if that can be."""
        if seconds > 0 and generation is not None and self._sound:
            self._seconds, self.asked = seconds, True
            self._out.add(Keep(seconds))

    def on(self, event: events.ZygoteEvent) -> None:
        """Write down what became of a zygote."""
        if isinstance(event, events.ZygoteEnded):
            self._out.write(records.ZYGOTE_ENDED, pid=event.pid, reason=event.reason[:MOST_TEXT])
        elif isinstance(event, events.NotKept):
            self.asked = False
            self._out.write(records.ZYGOTE_NOT_KEPT, reason=event.why[:MOST_TEXT])
        else:
            who = {"pid": event.pid, "start_time": event.start_time}
            if isinstance(event, events.ZygoteReady):
                self._out.write(records.ZYGOTE_READY, **who, seconds=event.seconds)
            elif isinstance(event, events.ZygoteAdopted):
                self._out.write(records.ZYGOTE_ADOPTED, **who, run=event.run[:MOST_TEXT])
            else:
                self.asked = False
                self._out.write(records.ZYGOTE_KEPT, **who, seconds=self._seconds)
