"""A TCP connection to a name, by whichever of its addresses answers first, within a deadline."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from launcher.errors import NotFitError

# RFC 8305: how long one address has the stage to itself before the next one is tried, too.
_HEAD_START_S = 0.25
_FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}

_Address = tuple[int, Any]


class Deadline:
    """A stretch of time that can be halted: while a person is asked for something, nobody is late."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self.halted_s = 0.0

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - time.monotonic())

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.halted_s += time.monotonic() - start
            self._end += time.monotonic() - start


def dial(name: str, address: str, port: int, deadline: Deadline, family: str = "any") -> socket.socket:
    """A connected socket with TCP_NODELAY. `name` is the host's in messages.

    Raises NotFitError: the name is not found, refused, no route, nothing within the deadline.
    """
    found = _look_up(name, address, port, family, deadline)
    race = _Race(found)
    try:
        sock = race.run(deadline)
    finally:
        race.close()
    if sock is None:
        raise _unreachable(name, address, port, race.errors, deadline)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(True)
    return sock


class _Race:
    def __init__(self, addresses: Sequence[_Address]) -> None:
        self._waiting = list(addresses)
        self._running: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self.errors: list[OSError] = []

    def run(self, deadline: Deadline) -> socket.socket | None:
        while self._waiting or self._running:
            if self._waiting:
                self._start(*self._waiting.pop(0))
            wait = min(deadline.left_s, _HEAD_START_S) if self._waiting and self._running else deadline.left_s
            for number, _ in self._poll.poll(wait * 1000) if self._running else ():
                sock = self._running.pop(number)
                self._poll.unregister(number)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return sock
                sock.close()
                self.errors.append(OSError(code, os.strerror(code)))
            if deadline.left_s <= 0:
                break
        return None

    def _start(self, family: int, address: Any) -> None:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self.errors.append(error)
            return
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code in {0, errno.EINPROGRESS}:
            self._running[sock.fileno()] = sock
            self._poll.register(sock.fileno(), select.POLLOUT)
        else:
            sock.close()
            self.errors.append(OSError(code, os.strerror(code)))

    def close(self) -> None:
        for sock in self._running.values():
            sock.close()


def _look_up(name: str, address: str, port: int, family: str, deadline: Deadline) -> list[_Address]:
    answer: list[list[_Address] | OSError] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(address, port, _FAMILIES[family], socket.SOCK_STREAM)
            answer.append([(one[0], one[4]) for one in found])
        except (OSError, UnicodeError) as error:
            answer.append(error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error)))

    # The resolver takes no deadline, so its thread is left to itself if it is late.
    thread = threading.Thread(target=ask, name=f"look up {address}", daemon=True)
    thread.start()
    thread.join(deadline.left_s)
    hint = "is it an alias that ~/.ssh/config lacks, a typing error, or a name that only a VPN knows?"
    if not answer:
        raise NotFitError(f"{name}: the name {address} was not found within {deadline.seconds:g} s", hint=hint)
    if isinstance(answer[0], OSError):
        raise NotFitError(f"{name}: the name {address} is not found ({answer[0].strerror})", hint=hint)
    return answer[0]


def _unreachable(name: str, address: str, port: int, errors: Sequence[OSError], deadline: Deadline) -> NotFitError:
    where = f"{address} port {port}"
    if not errors or deadline.left_s <= 0:
        return NotFitError(
            f"{name}: {where} does not answer: nothing within {deadline.seconds:g} s",
            hint="is the machine on, the address right, a firewall or a VPN in between? "
            "A slow line needs a higher `timeouts.connect`",
        )
    if any(error.errno == errno.ECONNREFUSED for error in errors):
        return NotFitError(
            f"{name}: {where} refuses connections",
            hint="the machine is there: is sshd running on it, and on that port?",
        )
    why = "; ".join(dict.fromkeys(error.strerror or str(error) for error in errors))
    return NotFitError(f"{name}: {where} cannot be reached: {why}", hint="check the address, the network and the VPN")
