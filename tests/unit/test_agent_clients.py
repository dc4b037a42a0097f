"""Who commands an agent says a word every second; who says none for long is behind a link that was cut."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.agent.clients import Clients
from worker.agent.journal import Follower, Journal
from worker.contract import wire

SILENCE_S = 0.3


class Shell:
    """What stands around the clients of an agent: a loop, and an ear for what they say."""

    def __init__(self, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "socket"))
        self.listener.listen()
        self.gone: list[int] = []
        self.clients = Clients(
            self.selector, self.listener, lambda *_: None, lambda _: None, self.gone.append, silence_s=SILENCE_S
        )
        self.folder = folder

    def connect(self) -> socket.socket:
        one = socket.socket(socket.AF_UNIX)
        one.connect(str(self.folder / "socket"))
        return one

    def turn(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, mask in self.selector.select(min(left, 0.02)):
                key.data(mask)
            self.clients.pump()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    one = Shell(tmp_path)
    yield one
    one.clients.close()
    one.listener.close()
    one.selector.close()


def test_a_commander_that_says_nothing_for_long_is_dropped_and_others_are_not(shell: Shell, tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "events.jsonl"))
    with shell.connect() as commander, shell.connect() as other:
        shell.turn(0.05)
        shell.clients.follow(1, Follower(journal, 0, 0))
        for _ in range(3):
            commander.send(wire.encode({"type": wire.STATUS}))
            shell.turn(SILENCE_S / 2)
        assert shell.gone == []
        shell.turn(SILENCE_S * 3)
        assert shell.gone == [1]
        assert commander.recv(1) == b""
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)


def test_an_errand_hears_the_end_when_nothing_has_come_for_long() -> None:
    source = "from worker.errands.talk import Talk; raise SystemExit(7 if Talk().receive(0.1) is None else 0)"
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as errand:
        assert errand.wait(20) == 7
