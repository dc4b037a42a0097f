"""The coordinator's streams to the agents: opened, served, opened again.

A local relay that ends is opened again at once, a few times. A link to another machine may break and come back hours
later: it is tried again and again, ever more slowly, and one that has fallen silent is given up for a fresh one.
Whether an agent is gone is not decided here: only the far side can say that (`absent`).
"""

from __future__ import annotations

import random
import selectors
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from launcher.errors import LauncherError
from launcher.hosts.base import Host, RunOnHost, Stream
from worker.contract import wire

RECONNECTS = 5  # of a host that has never answered, or that is this machine
FIRST_PAUSE_S, MOST_PAUSE_S = 0.25, 5.0
LEAST_MISSES = 5  # turns of the loop without a word: a coordinator that was busy itself must not invent a silence

SLEPT_S = 2.0  # between two turns: this process slept, or was busy, which says nothing about anybody else
AFRESH_S = 3.0  # when patience ends: a link that was lost before is tried once more, and this is how long that may take
AWAKE_S = 3.0  # after that: an agent hangs up on who is silent for two minutes, and it is we who were


class Listener(Protocol):
    """Who is told what comes."""

    def said(self, host: str, message: wire.Message) -> None:
        """A message of an agent's or a relay's."""

    def gone(self, host: str, why: str) -> None:
        """No stream to the host can be had, and no further try is made."""

    def link_lost(self, host: str, why: str) -> None:
        """The link to another machine broke or fell silent; it will be tried again."""

    def link_back(self, host: str, after_s: float) -> None:
        """It is there again."""


@dataclass
class _Link:
    stream: Stream | None = None
    answered: bool = False  # an agent has said hello, at any time
    greeted: bool = False  # and over this stream
    tries: int = 0  # since then, in vain
    again_at: float | None = None
    heard_at: float = 0.0
    misses: int = 0
    lost_at: float | None = None
    parting: bool = False  # its end is expected


class Links:
    """One link for each host that was opened. Everything happens in the loop that calls `tend` and the selector."""

    def __init__(
        self,
        hosts: Mapping[str, Host],
        selector: selectors.BaseSelector,
        target: Callable[[str], RunOnHost],
        listener: Listener,
        silent_s: float,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(0.75, 1.25),
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._hosts = hosts
        self._selector = selector
        self._target = target
        self._listener = listener
        self._silent_s = silent_s
        self._links: dict[str, _Link] = {}
        self._tended_at = self._clock()
        self._woke_at = float("-inf")
        self.closing = False  # a stream that ends is not opened again
        self._patience_s = float("inf")
        self._ended_at = float("-inf")  # when patience without end was over
        self.leaving: Collection[str] = ()  # hosts that have to go anyway: they have no longer than a silent one

    @property
    def open_hosts(self) -> list[str]:
        """Hosts with a stream, or one that is about to be tried again."""
        return [h for h, link in self._links.items() if link.stream is not None or link.again_at is not None]

    @property
    def patience_s(self) -> float:
        """How long a link may be lost before its host counts as gone."""
        return self._patience_s

    @patience_s.setter
    def patience_s(self, seconds: float) -> None:
        if seconds < self._patience_s:
            self._ended_at = now = self._clock()
            for link in self._links.values():
                if link.again_at is not None:
                    link.again_at = now
        self._patience_s = seconds

    def expect(self, host: str) -> None:
        """The host has an agent of this run already: if it cannot be reached, its link is lost, and not the host."""
        self._links.setdefault(host, _Link()).answered = True

    def open(self, host: str, *, start: bool) -> None:
        """Open a stream if there is none; with `start`, its agent is started if there is none."""
        link = self._links.setdefault(host, _Link())
        if link.stream is not None:
            return
        link.again_at = None
        link.heard_at, link.misses = self._clock(), 0
        try:
            stream = self._hosts[host].open(self._target(host), start=start)
        except LauncherError as error:
            if link.answered and self._hosts[host].remote:
                self._ended(host, error.message)
            else:
                self._listener.gone(host, error.message)
            return
        link.stream, link.greeted = stream, False
        self._selector.register(stream, selectors.EVENT_READ, lambda: self._read(host))

    def send(self, host: str, message: Mapping[str, Any]) -> None:
        """Queue a message; one for a host whose agent has not said hello over this stream is dropped: what it is to be
        told follows the command that answers the hello."""
        link = self._links.get(host)
        if link is None or link.stream is None or not link.greeted:
            return
        try:
            link.stream.send(message)
        except OSError as error:
            self._ended(host, str(error.strerror or error))

    def tend(self) -> None:
        """What is due: bytes to be written, links to be tried again, a silence to be noticed. Call it every turn."""
        now = self._clock()
        self._excuse(now - self._tended_at, now)
        for host, link in list(self._links.items()):
            if link.stream is not None and link.stream.wants_write:
                try:
                    link.stream.flush()
                except OSError as error:
                    self._ended(host, str(error.strerror or error))
            elif link.lost_at is not None and self._is_given_up(host, link.lost_at, now):
                self.close(host)
                link.lost_at = None
                self._listener.gone(host, f"it could not be reached for {self._patience(host):.0f} s")
            elif link.again_at is not None and now >= link.again_at:
                self.open(host, start=not link.answered)
            elif link.stream is not None and self._hosts[host].remote:
                self._listen(host, link, now)
        self._tended_at = self._clock()

    def _is_given_up(self, host: str, lost_at: float, now: float) -> bool:
        """Too long, and not for want of a try since it was decided how long that is: it may have been back already."""
        patience_s = self._patience(host)
        return now - lost_at > patience_s and now - self._ended_at > min(AFRESH_S, patience_s)

    def _patience(self, host: str) -> float:
        return min(self.patience_s, self._silent_s) if host in self.leaving else self.patience_s

    def _excuse(self, gap_s: float, now: float) -> None:
        """After a sleep of ours nobody has been silent, and no lost link was tried in vain."""
        if gap_s <= SLEPT_S:
            return
        self._woke_at = now
        for link in self._links.values():
            link.heard_at, link.misses = now, 0
            if link.lost_at is not None:
                link.lost_at += gap_s

    def part(self, host: str) -> None:
        """From now on the end of its stream is expected: it is not opened again."""
        link = self._links.setdefault(host, _Link())
        link.parting = True
        if link.stream is None:
            link.again_at = link.lost_at = None

    def close(self, host: str) -> str:
        """Let go of the stream, if there is one; returns what the far side complained of."""
        link = self._links.get(host)
        if link is None:
            return ""
        link.again_at = None
        stream, link.stream = link.stream, None
        if stream is None:
            return ""
        self._selector.unregister(stream)
        complaint = stream.complaint()
        stream.close()
        return complaint

    def _read(self, host: str) -> None:
        link = self._links[host]
        stream = link.stream
        if stream is None:
            return
        try:
            messages, is_open = stream.receive()
        except (wire.WireError, OSError):
            messages, is_open = [], False
        if messages:
            link.heard_at, link.misses = self._clock(), 0
        for message in messages:
            if message["type"] == wire.HELLO:
                self._answered(host, link)
            self._listener.said(host, message)
        if not is_open and link.stream is stream:  # whoever was told may have let go of it, and taken another
            self._ended(host, "")

    def _answered(self, host: str, link: _Link) -> None:
        link.answered, link.greeted, link.tries = True, True, 0
        if link.lost_at is not None:
            lost_at, link.lost_at = link.lost_at, None
            self._listener.link_back(host, self._clock() - lost_at)

    def _listen(self, host: str, link: _Link, now: float) -> None:
        """An agent says something each second: after a long silence the link is dead, whatever TCP believes."""
        link.misses += 1
        if now - link.heard_at > self._silent_s and link.misses >= LEAST_MISSES:
            self._hosts[host].drop()
            if link.answered and link.lost_at is None:  # since then, and not since it was noticed
                link.lost_at = link.heard_at
                self._listener.link_lost(host, f"nothing was heard for {now - link.heard_at:.0f} s")
            self._ended(host, "")

    def _ended(self, host: str, why: str) -> None:
        complaint = self.close(host) or why
        link, remote = self._links[host], self._hosts[host].remote
        if self.closing or link.parting:
            return
        link.tries += 1
        if link.tries > RECONNECTS and not (remote and link.answered):
            self._listener.gone(host, complaint or "its stream broke again and again")
        elif not remote:
            self.open(host, start=False)
        else:
            forgiven = link.tries == 1 and self._has_slept()
            if link.answered and link.lost_at is None and not forgiven:
                link.lost_at = self._clock()
                self._listener.link_lost(host, complaint or "the connection ended")
            pause = min(FIRST_PAUSE_S * 2 ** (link.tries - 1), MOST_PAUSE_S)
            link.again_at = self._clock() + pause * self._jitter()

    def _has_slept(self) -> bool:
        """Whether we slept just now, so that whoever hung up did so on account of us. It is told if it lasts."""
        now = self._clock()
        return now - self._tended_at > SLEPT_S or now - self._woke_at < AWAKE_S
