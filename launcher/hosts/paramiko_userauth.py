"""The client's half of RFC 4252, for keys.

paramiko's own signs with every key it has before it knows whether the server wants it, and in the transport's thread,
where a hung agent kills the connection. This one can ask first, and signs in the thread of whoever logs in.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import paramiko
from paramiko.common import (
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_PK_OK,
    MSG_USERAUTH_SUCCESS,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_REQUEST,
)

from launcher.hosts.dial import Deadline
from launcher.hosts.key_files import PublicHalf
from launcher.hosts.paramiko_keys import Sign
from launcher.hosts.paramiko_wire import Wire, plain


class Said(Enum):
    READY = "the login may begin"
    WANTED = "this key would do"
    IN = "logged in"
    NO = "not with this"
    GONE = "the connection ended"


@dataclass(frozen=True)
class Answer:
    said: Said
    methods: tuple[str, ...] = ()
    partial: bool = False


class UserAuth:
    """Requests and answers. The transport's thread calls what paramiko's AuthHandler has."""

    banner: bytes | None = None

    def __init__(self, wire: Wire, user: str) -> None:
        self._wire, self._user = wire, user
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._in = False
        self._handler_table: dict[int, Callable[[Any], None]] = {
            MSG_SERVICE_ACCEPT: lambda _: self._answers.put(Answer(Said.READY)),
            MSG_USERAUTH_PK_OK: lambda _: self._answers.put(Answer(Said.WANTED)),
            MSG_USERAUTH_SUCCESS: self._success,
            MSG_USERAUTH_FAILURE: self._failure,
            MSG_USERAUTH_BANNER: lambda _: None,
        }
        wire.auth_handler = self

    def _success(self, _: Any) -> None:
        self._in = True
        self._wire._auth_trigger()
        self._answers.put(Answer(Said.IN))

    def _failure(self, message: Any) -> None:
        methods = tuple(plain(method) for method in message.get_list())
        self._answers.put(Answer(Said.NO, methods, message.get_boolean()))

    def abort(self) -> None:
        self._answers.put(Answer(Said.GONE))

    def is_authenticated(self) -> bool:
        return self._in

    def get_username(self) -> str:
        return self._user

    def ask(self, message: paramiko.Message, deadline: Deadline) -> Answer:
        """Raises queue.Empty at the deadline."""
        if not self._wire.is_active():
            return Answer(Said.GONE)
        try:
            self._wire._send_message(message)
        except (OSError, EOFError, paramiko.SSHException):
            return Answer(Said.GONE)
        return self._answers.get(timeout=deadline.left_s)

    def begin(self, deadline: Deadline) -> Answer:
        message = paramiko.Message()
        message.add_byte(cMSG_SERVICE_REQUEST)
        message.add_string("ssh-userauth")
        return self.ask(message, deadline)

    def would_take(self, public: PublicHalf, deadline: Deadline) -> Answer:
        return self.ask(self._request(public, False), deadline)

    def prove(self, public: PublicHalf, sign: Sign, deadline: Deadline) -> Answer:
        signed = paramiko.Message()
        signed.add_string(self._wire.session_id or b"")
        request = self._request(public, True)
        signature = sign(signed.asbytes() + request.asbytes(), self._algorithm(public.type))
        request.add_string(signature)
        return self.ask(request, deadline)

    def _request(self, public: PublicHalf, signed: bool) -> paramiko.Message:
        message = paramiko.Message()
        message.add_byte(cMSG_USERAUTH_REQUEST)
        message.add_string(self._user)
        message.add_string("ssh-connection")
        message.add_string("publickey")
        message.add_boolean(signed)
        message.add_string(self._algorithm(public.type))
        message.add_string(public.blob)
        return message

    def _algorithm(self, kind: str) -> str:
        """How a key of this type signs: for RSA the type does not say it."""
        if not kind.startswith("ssh-rsa"):
            return kind
        takes = self._wire.server_extensions.get("server-sig-algs", b"").decode("ascii", "replace").split(",")
        best = "rsa-sha2-256" if "rsa-sha2-512" not in takes and "rsa-sha2-256" in takes else "rsa-sha2-512"
        return kind.replace("ssh-rsa", best)
