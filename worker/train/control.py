"""Requests to this rank: messages on the agent's pipe, or signals. No TensorFlow.

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
        self._agent = 0
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

    def listen(self, descriptor: int | None, going: Callable[[str], None] = lambda _: None) -> None:
        """Start listening, for the life of the process. Call it before any other thread is started.

        With the agent's pipe, a stop is a message, and SIGINT (a terminal's Ctrl-C, not meant for us) nothing. SIGTERM
        means "leave now" if the agent, our parent, sent it. Anybody else's says that this host has to go (a spot
        machine, a batch system): `going` is told why, and all workers are asked to save and stop; a further one changes
        nothing. Without the pipe, either signal asks to stop, and the second one means "now".
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._agent = os.getppid()
        if descriptor is None:
            _start(self._take_signals_by_hand)
        else:
            _start(self._take_signals, going)
        if descriptor is not None:
            _start(self._read, descriptor)

    def _take_signals(self, going: Callable[[str], None]) -> None:
        told = False
        while True:
            caught = signal.sigwaitinfo(SIGNALS)
            if caught.si_signo == signal.SIGINT:
                continue
            if caught.si_pid == self._agent:
                os._exit(128 + caught.si_signo)
            if not told:
                told = True
                say("sent SIGTERM, and not by the agent: this host has to go; saving a checkpoint")
                going(f"SIGTERM by process {caught.si_pid}" if caught.si_pid else "SIGTERM")
                self.ask_to_stop()

    def _take_signals_by_hand(self) -> None:
        while True:
            number = signal.sigwait(SIGNALS)
            if self.stop or not self._training.is_set():
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
