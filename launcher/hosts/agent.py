"""Speaking with ssh-agent: which keys it holds, and its signatures. Every call has a deadline."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass

_LIST, _LISTED, _SIGN, _SIGNED = 11, 12, 13, 14
_MOST = 1 << 20
_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


class AgentError(Exception):
    """The agent is not there, does not answer in time, answers nonsense, or refuses."""


@dataclass(frozen=True)
class AgentKey:
    """A public key that the agent can sign for."""

    type: str
    blob: bytes
    comment: str


class Agent:
    """A connection to the agent. For one thread."""

    def __init__(self, path: str, *, timeout_s: float) -> None:
        """Raises AgentError."""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(max(0.01, timeout_s))
        try:
            self._socket.connect(path)
        except OSError as error:
            self.close()
            raise AgentError(f"the ssh-agent at {path} cannot be reached: {_why(error)}") from error

    def list_keys(self) -> list[AgentKey]:
        """What it holds. Raises AgentError."""
        kind, body = self._call(bytes([_LIST]))
        if kind != _LISTED:
            raise AgentError(f"the ssh-agent at {self._path} does not list its keys; is it locked?")
        try:
            count, rest = struct.unpack(">I", body[:4])[0], body[4:]
            found = []
            for _ in range(count):
                blob, rest = take_string(rest)
                comment, rest = take_string(rest)
                found.append(AgentKey(take_string(blob)[0].decode("ascii"), blob, comment.decode("utf-8", "replace")))
        except (struct.error, ValueError) as error:
            raise AgentError(f"the ssh-agent at {self._path} answers nonsense") from error
        return found

    def sign(self, blob: bytes, data: bytes, algorithm: str, *, timeout_s: float) -> bytes:
        """The signature of `data` with the key `blob`; the agent may ask its owner. Raises AgentError."""
        self._socket.settimeout(max(0.01, timeout_s))
        flags = _FLAGS.get(algorithm.partition("-cert-")[0], 0)
        kind, body = self._call(bytes([_SIGN]) + string(blob) + string(data) + struct.pack(">I", flags))
        if kind != _SIGNED:
            raise AgentError(f"the ssh-agent at {self._path} refuses to sign")
        try:
            return take_string(body)[0]
        except ValueError as error:
            raise AgentError(f"the ssh-agent at {self._path} answers nonsense") from error

    def close(self) -> None:
        """May be called twice."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _call(self, request: bytes) -> tuple[int, bytes]:
        try:
            self._socket.sendall(string(request))
            size = struct.unpack(">I", self._exactly(4))[0]
            if not 0 < size <= _MOST:
                raise AgentError(f"the ssh-agent at {self._path} answers nonsense")
            answer = self._exactly(size)
        except OSError as error:
            raise AgentError(f"the ssh-agent at {self._path} does not answer: {_why(error)}") from error
        return answer[0], answer[1:]

    def _exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            more = self._socket.recv(size - len(got))
            if not more:
                raise ConnectionResetError(0, "it hung up")
            got += more
        return got


def string(data: bytes) -> bytes:
    """As SSH writes a string: its length, then it."""
    return struct.pack(">I", len(data)) + data


def take_string(data: bytes) -> tuple[bytes, bytes]:
    """(the string at the start, what is behind it). Raises ValueError."""
    if len(data) < 4:
        raise ValueError("too short")
    size = struct.unpack(">I", data[:4])[0]
    if len(data) < 4 + size:
        raise ValueError("too short")
    return data[4 : 4 + size], data[4 + size :]


def _why(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
