"""`check`: tell what a plan and a check need to know of this host, and try whether it and the others reach each other.

The coordinator sends, as often as it likes:
  clock {}                    answered by clock {t}: the time of day here
  look {order}                answered by facts {facts, failures}: see `facts`
  listen {ports, token}       answered by listening {failed: {port: why}, extra: a port of the kernel's choice}
  try {targets: {id: [address, port, token]}, timeout_s}      answered by tried {results: {id: [why, milliseconds]}}
`why` is empty for a target that was reached and answered as the host whose token that is. Whoever listens proves that
it knows its token; so an address that leads to another machine is found, and a port that somebody else holds.
Like TensorFlow, this listens on every interface. The extra port shows whether a firewall lets only `ports` through.
One process does it all: with many hosts most of a check's time is the start of Pythons.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List

from ..contract.wire import Message
from .talk import Talk


def main(argv: List[str]) -> int:  # noqa: ARG001
    """Answer until nobody asks any more; then nothing listens any more."""
    talk = Talk()
    while True:
        frame = talk.receive()
        if frame is None:
            return 0
        message = frame[0]
        answer = _ANSWERS.get(message["type"])
        if answer is None:
            talk.send({"type": "refused", "what": str(message["type"])[:100]})
        else:
            talk.send(answer(message))


def _clock(message: Message) -> Message:  # noqa: ARG001
    return {"type": "clock", "t": time.time()}


def _look(message: Message) -> Message:
    from . import facts

    return {"type": "facts", **facts.look(message)}


def _listen(message: Message) -> Message:
    from .listener import listen

    failed, extra = listen([int(port) for port in message["ports"]], str(message["token"]).encode())
    return {"type": "listening", "failed": failed, "extra": extra}


def _try(message: Message) -> Message:
    from .probe import attempt

    targets = {
        str(name): (str(address), int(port), str(token).encode())
        for name, (address, port, token) in dict(message["targets"]).items()
    }
    return {"type": "tried", "results": attempt(targets, float(message["timeout_s"]))}


_ANSWERS: Dict[Any, Callable[[Message], Message]] = {
    "clock": _clock,
    "look": _look,
    "listen": _listen,
    "try": _try,
}
