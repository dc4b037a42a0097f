"""A machine over SSH that does not answer holds up nobody: its sessions are made in the threads that want them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from launcher.errors import NotFitError
from launcher.hosts.session import Channel, Session
from launcher.hosts.ssh import SshHost
from launcher.spec.model import HostSpec, Ssh


class Line(Session):
    """A session without anything behind it."""

    def __init__(self) -> None:
        self.name, self.closed = "a", False

    @property
    def alive(self) -> bool:
        return not self.closed

    def run(self, command: str) -> Channel:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


class Switchboard:
    """Connects once it is told to."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()
        self.made: list[Line] = []

    def connect(self) -> Session:
        self.asked.set()
        assert self.answer.wait(20)
        self.made.append(Line())
        return self.made[-1]


@pytest.fixture
def board() -> Iterator[Switchboard]:
    one = Switchboard()
    yield one
    one.answer.set()


def host(board: Switchboard, session: Session | None = None) -> SshHost:
    return SshHost(HostSpec(name="a", ssh=Ssh(host="a")), board.connect, session)


def test_a_session_is_given_up_while_another_one_is_being_made(board: Switchboard) -> None:
    dead = Line()
    one = host(board, dead)
    dead.close()
    got: list[Session] = []
    threads = [threading.Thread(target=lambda: got.append(one.session())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert board.asked.wait(20)
    began = time.monotonic()
    one.drop()
    assert time.monotonic() - began < 1
    board.answer.set()
    for thread in threads:
        thread.join(20)
    assert got == board.made * 3, "those who wait share it"


def test_a_session_that_comes_after_the_end_is_ended(board: Switchboard) -> None:
    one = host(board)
    raised: list[BaseException] = []

    def ask() -> None:
        with pytest.raises(NotFitError) as error:
            one.session()
        raised.append(error.value)

    thread = threading.Thread(target=ask)
    thread.start()
    assert board.asked.wait(20)
    one.close()
    board.answer.set()
    thread.join(20)
    assert len(raised) == 1
    assert [line.closed for line in board.made] == [True]
