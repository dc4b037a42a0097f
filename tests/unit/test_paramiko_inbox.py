"""What a channel has brought: in order, whole, and its descriptor says the truth."""

from __future__ import annotations

import random
import select
import threading
from pathlib import Path

import pytest
from paramiko.buffered_pipe import PipeTimeout

from launcher.hosts.paramiko_inbox import Inbox, Tail


def readable(inbox: Inbox) -> bool:
    poll = select.poll()
    poll.register(inbox.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_it_is_readable_exactly_while_there_is_something_to_take() -> None:
    inbox = Inbox()
    assert (inbox.take(10), readable(inbox), len(inbox)) == (None, False, 0)
    inbox.feed(b"abc")
    inbox.feed(b"")
    inbox.feed(b"def")
    assert (readable(inbox), len(inbox), inbox.read_ready()) == (True, 6, True)
    assert inbox.take(4) == b"abcd"
    assert (readable(inbox), len(inbox)) == (True, 2)
    assert inbox.take(4) == b"ef"
    assert (inbox.take(4), readable(inbox)) == (None, False)
    inbox.close()
    inbox.close()
    assert (inbox.take(4), readable(inbox)) == (b"", True)


def test_whoever_is_woken_finds_something() -> None:
    inbox = Inbox()
    taken = threading.Semaphore(0)

    def feed() -> None:
        for _ in range(2000):
            inbox.feed(b"abc")
            taken.acquire()

    thread = threading.Thread(target=feed)
    thread.start()
    poll = select.poll()
    poll.register(inbox.fileno(), select.POLLIN)
    sizes = set()
    for _ in range(2000):
        assert poll.poll(10_000)
        sizes.add(len(inbox))
        inbox.take(10)
        taken.release()
    thread.join()
    assert sizes == {3}


def test_what_came_before_the_end_is_read_before_the_end() -> None:
    inbox = Inbox()
    inbox.feed(b"abc")
    inbox.close()
    assert [inbox.take(2), inbox.take(2), inbox.take(2)] == [b"ab", b"c", b""]


def test_pieces_of_any_size_come_out_in_order() -> None:
    dice, inbox, got = random.Random(1), Inbox(), bytearray()
    data = dice.randbytes(1 << 20)

    def feed() -> None:
        rest = data
        while rest:
            size = dice.randint(1, 20000)
            inbox.feed(rest[:size])
            rest = rest[size:]
        inbox.close()

    thread = threading.Thread(target=feed)
    thread.start()
    takes = random.Random(2)
    while True:
        piece = inbox.read(takes.randint(1, 30000), 10.0)
        if not piece:
            break
        got += piece
    thread.join()
    assert bytes(got) == data


def test_reading_as_paramiko_does_has_a_deadline() -> None:
    inbox = Inbox()
    for timeout in (0.0, 0.01):
        with pytest.raises(PipeTimeout):
            inbox.read(1, timeout)


def test_one_that_was_dropped_keeps_nothing() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    inbox = Inbox()
    inbox.feed(b"abc")
    inbox.drop()
    inbox.drop()
    inbox.feed(b"def")
    inbox.close()
    assert (inbox.take(9), len(inbox), inbox.fileno()) == (b"", 0, -1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_of_errors_the_end_is_kept_and_all_is_taken() -> None:
    taken: list[int] = []
    tail = Tail(taken.append)
    for number in range(3000):
        tail.feed(b"%d\n" % number)
    assert tail.text.endswith("2998\n2999\n")
    assert len(tail.text) == 4000
    assert sum(taken) == sum(len(b"%d\n" % number) for number in range(3000))
