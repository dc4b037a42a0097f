"""What a daemon and the command that started it say to each other until the daemon stands on its own feet.

The daemon tells what it does, asks for a passphrase, hands over the error that ended it, or says that it is ready. Both
are one program, parted by a fork: what goes between them over a socket pair are pickles.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from launcher.errors import LauncherError

_LENGTH = struct.Struct(">I")


class Front(Protocol):
    """Whoever sits before the terminal, as far as preparing a run is concerned. For any thread."""

    def say(self, text: str) -> None:
        """Show a line that stays."""

    def tell(self, what: str, waiting: Sequence[str]) -> None:
        """Show for a moment what is being done, and which hosts are waited for."""

    def ask(self, prompt: str) -> str | None:
        """A secret; None if nobody is there, or would not say."""


class GivenUpError(Exception):
    """The command that started this daemon does not want it any more."""


class Foreground:
    """The daemon's end. `say` and `ask` may be called from any thread; a command that is gone hears nothing."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._asking = threading.Lock()
        self._sending = threading.Lock()
        self._answers: list[str | None] = []
        self._news = threading.Condition()
        self._gone = False
        self._given_up = False
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more to be told anything."""
        return self._gone

    def say(self, text: str) -> None:
        """Show a line about what is being done. Raises GivenUpError if it is not wanted any more."""
        if self._given_up:
            raise GivenUpError
        self._send(("say", text))

    def tell(self, what: str, waiting: Sequence[str]) -> None:
        """Show for a moment what is being done. Raises GivenUpError if it is not wanted any more."""
        if self._given_up:
            raise GivenUpError
        self._send(("tell", (what, list(waiting))))

    def ask(self, prompt: str) -> str | None:
        """A secret from whoever sits there; None if nobody does, or they would not say."""
        with self._asking:
            if not self._send(("ask", prompt)):
                return None
            with self._news:
                self._news.wait_for(lambda: self._answers or self._gone or self._given_up)
                return self._answers.pop() if self._answers else None

    def fail(self, error: LauncherError) -> bool:
        """Hand over the error that ends this daemon; whether somebody was there to take it."""
        return self._send(("fail", error))

    def ready(self) -> None:
        """The command may go its own way now. Raises GivenUpError if it does not want the daemon any more."""
        if self._given_up:
            raise GivenUpError
        self._send(("ready", None))
        with self._sending:
            self._gone = True
            with contextlib.suppress(OSError):
                self._end.shutdown(socket.SHUT_RDWR)  # ends the listening thread, too

    def _send(self, frame: tuple[str, Any]) -> bool:
        with self._sending:
            if self._gone:
                return False
            try:
                self._end.sendall(_packed(frame))
            except OSError:
                self._gone = True
                return False
            # Whoever has it may be gone already, since that was all that it waited for: it was told all the same.
            return True

    def _listen(self) -> None:
        while True:
            frame = _next(self._end)
            with self._news:
                if frame is None:
                    self._gone = True
                elif frame[0] == "answer":
                    self._answers.append(frame[1])
                elif frame[0] == "give up":
                    self._given_up = True
                self._news.notify_all()
            if frame is None:
                return


def attend(end: socket.socket, front: Front) -> bool:
    """The command's end: show and answer until the daemon is ready (True) or ended without a word (False).

    Raises the error that ended the daemon. An interruption (KeyboardInterrupt) tells the daemon to give up, and waits
    for it to be gone.
    """
    try:
        while (frame := _next(end)) is not None:
            kind, value = frame
            if kind == "ready":
                return True
            if kind == "fail":
                raise value
            if kind == "say":
                front.say(value)
            elif kind == "tell":
                front.tell(*value)
            elif kind == "ask":
                end.sendall(_packed(("answer", front.ask(value))))
    except (KeyboardInterrupt, SystemExit):
        try:
            end.sendall(_packed(("give up", None)))
            while _next(end) is not None:
                pass
        except (OSError, KeyboardInterrupt):
            pass
        raise
    return False


def _packed(frame: tuple[str, Any]) -> bytes:
    body = pickle.dumps(frame)
    return _LENGTH.pack(len(body)) + body


def _next(end: socket.socket) -> tuple[str, Any] | None:
    try:
        head = _exactly(end, _LENGTH.size)
        body = _exactly(end, _LENGTH.unpack(head)[0]) if head else b""
    except OSError:
        return None
    return pickle.loads(body) if body else None


def _exactly(end: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = end.recv(count - len(data))
        if not piece:
            return b""
        data += piece
    return data
