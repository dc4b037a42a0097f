"""Requests to this rank: messages on the agent's pipe, or signals when a person runs it by hand. No TensorFlow.

SIGINT and SIGTERM are blocked in every thread and taken by one that waits for them: TensorFlow replaces handlers of
its own accord, and a Python handler would not run while the main thread waits inside a collective.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable

from .words import say

SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
_LONGEST_LINE = 1 << 16
# A collective under way breaks by itself within 0.6 s of a peer's death, and says more of it than we could.
BREAKS_BY_ITSELF_S = 1.0


class Control:
    """What was asked of this rank so far. Flags only go up, except `checkpoint`, which whoever serves it clears."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._checkpoint = threading.Event()
        self._training = threading.Event()
        self._on_loss: Callable[[], None] | None = None

    @property
    def stop(self) -> bool:
        return self._stop.is_set()

    @property
    def checkpoint(self) -> bool:
        return self._checkpoint.is_set()

    def ask_to_stop(self) -> None:
        self._stop.set()

    def ask_for_checkpoint(self) -> None:
        self._checkpoint.set()

    def checkpoint_done(self) -> None:
        self._checkpoint.clear()

    def training_began(self) -> None:
        """From here on a first signal means a checkpoint and a stop; before, there is nothing to save."""
        self._training.set()

    def on_peer_lost(self, call: Callable[[], None]) -> None:
        """Have `call` called, from a thread of its own, a while after a peer was lost, if we are still there."""
        self._on_loss = call

    def listen(self, descriptor: int | None) -> None:
        """Start listening, for the life of the process. Call it before any other thread is started.

        With the agent's pipe, a stop is a message, SIGTERM means "leave now" and SIGINT (a terminal's Ctrl-C, not
        meant for us) nothing; without it, either signal asks to stop, and the second one means "now".
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        by_hand = descriptor is None
        _start(self._take_signals, by_hand)
        if descriptor is not None:
            _start(self._read, descriptor)

    def _take_signals(self, by_hand: bool) -> None:
        while True:
            number = signal.sigwait(SIGNALS)
            if not by_hand and number == signal.SIGINT:
                continue
            if not by_hand or self.stop or not self._training.is_set():
                os._exit(128 + number)
            say("asked to stop: saving a checkpoint (once more: at once)")
            self.ask_to_stop()

    def _read(self, descriptor: int) -> None:
        buffer = b""
        while True:
            try:
                data = os.read(descriptor, 4096)
            except OSError as error:
                say(f"the control pipe cannot be read: {error}")
                return
            if not data:  # the agent is gone: its warden, not this thread, ends what is left
                return
            *lines, buffer = (buffer + data).split(b"\n")
            buffer = buffer[-_LONGEST_LINE:]
            for line in lines:
                self._obey(line)

    def _obey(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return
        type_ = message.get("type") if isinstance(message, dict) else None
        if type_ == "stop":
            self.ask_to_stop()
        elif type_ == "checkpoint":
            self.ask_for_checkpoint()
        elif type_ == "peer_lost" and self._on_loss is not None:
            timer = threading.Timer(BREAKS_BY_ITSELF_S, self._on_loss)
            timer.daemon = True
            timer.start()


def leave(code: int) -> None:
    """End the process at once, without TensorFlow's teardown, which may wait for peers that are gone."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _start(target: object, *args: object) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()  # type: ignore[arg-type]
