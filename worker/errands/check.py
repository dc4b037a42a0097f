"""`check`: tell what a plan and a check need to know of this host, and try whether it and the others reach each other.

The coordinator sends, as often as it likes:
  clock {}                    answered by clock {t}: the time of day here
  facts {order}               answered by facts {facts, failures, came, went}: see `facts`; the last two are the times
                              of day here at which the question was taken up and the answer left
  listen {ports, token}       answered by listening {failed: {port: why}, extra: a port of the kernel's choice}
  try {targets: {id: [address, port, token]}, timeout_s}      answered by tried {results: {id: [why, milliseconds]}}
`why` is empty for a target that was reached and answered as the host whose token that is. Whoever listens proves that
it knows its token; so an address that leads to another machine is found, and a port that somebody else holds.
Like TensorFlow, this listens on every interface. The extra port shows whether a firewall lets only `ports` through.
One process does it all, in one thread: with many hosts most of a check's time is the start of Pythons.
"""

from __future__ import annotations

import selectors
import time
from typing import Any, List, Optional

from ..contract import bulk
from ..contract.wire import Message
from .talk import Talk

# Between two questions lies what other hosts take, their `setup:` too. Whoever asks after this long enters anew.
SILENCE_S = 3600.0


def main(argv: List[str]) -> int:  # noqa: ARG001
    """Answer until nobody asks any more; then nothing listens any more."""
    talk = Talk()
    checker = Checker(talk)
    while True:
        frame = checker.receive()
        if frame is None:
            return 0
        if not checker.serve(frame[0]):
            talk.send({"type": "refused", "what": str(frame[0]["type"])[:100]})


class Checker:
    """Answers over a talk. What listens is served while the next question is waited for, and while others are tried."""

    def __init__(self, talk: Talk, silence_s: float = SILENCE_S) -> None:
        self._talk = talk
        self._silence_s = silence_s
        self._selector = selectors.DefaultSelector()
        self._listener: Any = None

    def receive(self) -> Optional[bulk.Frame]:
        """The next frame; None at the end of the input, or when nobody has asked for so long that nobody will: a
        connection that was cut says nothing of its end."""
        until = time.monotonic() + self._silence_s
        while self._listener is not None and not self._talk.pending:
            keys = [key for key, _ in self._selector.select(1.0)]
            for key in keys:
                if key.data is not None:
                    key.data()
            self._listener.tend()
            if time.monotonic() > until:
                return None
            if any(key.data is None for key in keys):
                break
        return self._talk.receive(self._silence_s)

    def serve(self, message: Message) -> bool:
        """Answer one question; False for what is none of ours."""
        answer = {"clock": _clock, "facts": _facts, "listen": self._listen, "try": self._try}.get(message["type"])
        if answer is None:
            return False
        self._talk.send(answer(message))
        return True

    def close(self) -> None:
        """Nothing listens any more."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _listen(self, message: Message) -> Message:
        from .listener import Listener

        self.close()
        self._listener = Listener(self._selector, str(message["token"]).encode())
        self._selector.register(self._talk.input_fileno(), selectors.EVENT_READ)
        failed, extra = self._listener.open([int(port) for port in message["ports"]])
        return {"type": "listening", "failed": failed, "extra": extra}

    def _try(self, message: Message) -> Message:
        from .probe import attempt

        targets = {
            str(name): (str(address), int(port), str(token).encode())
            for name, (address, port, token) in dict(message["targets"]).items()
        }
        listens = self._listener is not None
        if listens:  # the next question is not looked at meanwhile
            self._selector.unregister(self._talk.input_fileno())
        results = attempt(targets, float(message["timeout_s"]), self._selector)
        if listens:
            self._selector.register(self._talk.input_fileno(), selectors.EVENT_READ)
        return {"type": "tried", "results": results}


def _clock(message: Message) -> Message:  # noqa: ARG001
    return {"type": "clock", "t": time.time()}


def _facts(message: Message) -> Message:
    from . import facts

    came = time.time()
    return {"type": "facts", **facts.look(message), "came": came, "went": time.time()}
