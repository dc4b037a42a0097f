"""The coordinator's links: what a relay's end, a lost connection and a silence mean."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from launcher.errors import NotFitError
from launcher.hosts.base import Host, RunOnHost, Stream
from launcher.supervise import links as links_module
from launcher.supervise.links import Links
from worker.contract import wire

DEADLINE_S = 10.0


class PairStream(Stream):
    """A stream whose far end the test holds."""

    def __init__(self) -> None:
        super().__init__()
        self._ours, self.far = socket.socketpair()
        self._ours.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def _read(self) -> bytes | None:
        try:
            return self._ours.recv(1 << 16)
        except BlockingIOError:
            return None

    def _write(self, data: bytes) -> int:
        return self._ours.send(data)

    def close(self) -> None:
        self._ours.close()

    def complaint(self) -> str:
        return ""

    def say(self, kind: str) -> None:
        self.far.sendall(wire.encode({"type": kind}))


class FakeHost(Host):
    """A host that can be reached or not, as the test says."""

    def __init__(self, remote: bool) -> None:
        self.name = "b"
        self.remote = remote
        self.reachable = True
        self.dropped = 0
        self.starts: list[bool] = []
        self.streams: list[PairStream] = []

    def drop(self) -> None:
        self.dropped += 1

    def open(self, target: RunOnHost, *, start: bool) -> Stream:
        self.starts.append(start)
        return super().open(target, start=start)

    def _open(self, target: RunOnHost) -> Stream:  # noqa: ARG002
        if self.name == "wrong":
            raise NotFitError("no such host")
        stream = PairStream()
        if self.reachable:
            stream.far.sendall(wire.MAGIC)
        else:
            stream.far.shutdown(socket.SHUT_WR)  # it takes what it is told, and ends without a word
        self.streams.append(stream)
        return stream


@dataclass
class Heard:
    """What the links told."""

    kinds: list[str] = field(default_factory=list)
    whys: list[str] = field(default_factory=list)

    def said(self, host: str, message: wire.Message) -> None:  # noqa: ARG002
        self.kinds.append(message["type"])

    def gone(self, host: str, why: str) -> None:  # noqa: ARG002
        self.kinds.append("gone")
        self.whys.append(why)

    def link_lost(self, host: str, why: str) -> None:  # noqa: ARG002
        self.kinds.append("lost")
        self.whys.append(why)

    def link_back(self, host: str, after_s: float) -> None:  # noqa: ARG002
        self.kinds.append("back")


@dataclass
class World:
    host: FakeHost
    links: Links
    heard: Heard
    selector: selectors.BaseSelector

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.heard
            for key, _ in self.selector.select(0.02):
                key.data()
            self.links.tend()


@pytest.fixture
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(links_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(links_module, "MOST_PAUSE_S", 0.02)
    host, heard, selector = FakeHost(request.param), Heard(), selectors.DefaultSelector()
    links = Links({"b": host}, selector, lambda name: RunOnHost("run", name, "/f", "/c", 1.0), heard, silent_s=0.2)
    yield World(host, links, heard, selector)
    links.close("b")
    selector.close()
    for stream in host.streams:
        stream.far.close()


@pytest.mark.parametrize("world", [True], indirect=True)
def test_a_lost_link_to_another_machine_is_tried_until_it_is_back(world: World) -> None:
    world.links.open("b", start=True)
    world.host.streams[0].say(wire.HELLO)
    world.until(lambda: world.heard.kinds == [wire.HELLO])
    world.host.reachable = False
    world.host.streams[0].far.close()
    world.until(lambda: len(world.host.streams) > links_module.RECONNECTS + 3)
    assert world.heard.kinds == [wire.HELLO, "lost"]  # told once, however often it was tried
    world.host.reachable = True
    count = len(world.host.streams)
    world.until(lambda: len(world.host.streams) > count)
    world.host.streams[-1].say(wire.HELLO)
    world.until(lambda: len(world.heard.kinds) == 4)
    assert world.heard.kinds[2:] == ["back", wire.HELLO]
    assert world.host.starts[0]
    assert not any(world.host.starts[1:]), "an agent that has answered once is never started anew"


@pytest.mark.parametrize("world", [True], indirect=True)
def test_a_link_that_falls_silent_is_given_up_for_a_fresh_one(world: World) -> None:
    world.links.open("b", start=True)
    world.host.streams[0].say(wire.HELLO)
    world.until(lambda: len(world.host.streams) == 2)
    assert world.host.dropped == 1
    assert world.heard.kinds == [wire.HELLO, "lost"]
    assert "nothing was heard" in world.heard.whys[0]


@pytest.mark.parametrize("world", [True], indirect=True)
def test_who_has_slept_takes_nobody_for_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "SLEPT_S", 0.25)
    world.links.open("b", start=True)
    world.host.streams[0].say(wire.HELLO)
    world.until(lambda: bool(world.heard.kinds))
    time.sleep(0.3)  # longer than a link may be silent
    for _ in range(2 * links_module.LEAST_MISSES):
        world.links.tend()
    assert world.heard.kinds == [wire.HELLO]
    world.until(lambda: "lost" in world.heard.kinds)  # awake, a silence is one


@pytest.mark.parametrize("world", [True], indirect=True)
@pytest.mark.parametrize("reachable", [True, False], ids=["there", "gone"])
def test_who_was_hung_up_on_while_asleep_says_so_of_a_host_only_if_it_stays_away(
    world: World, monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    monkeypatch.setattr(links_module, "SLEPT_S", 0.25)
    world.links.open("b", start=True)
    world.host.streams[0].say(wire.HELLO)
    world.until(lambda: bool(world.heard.kinds))
    world.host.reachable = reachable
    world.host.streams[0].far.close()
    time.sleep(0.3)  # asleep
    world.until(lambda: len(world.host.streams) > 1)
    if reachable:
        world.host.streams[1].say(wire.HELLO)
        world.until(lambda: len(world.heard.kinds) == 2)
        assert world.heard.kinds == [wire.HELLO, wire.HELLO]
    else:
        world.until(lambda: "lost" in world.heard.kinds)


@pytest.mark.parametrize("world", [True], indirect=True)
def test_once_the_run_is_stopping_patience_ends(world: World) -> None:
    world.links.open("b", start=True)
    world.host.streams[0].say(wire.HELLO)
    world.until(lambda: bool(world.heard.kinds))
    world.host.reachable = False
    world.links.patience_s = 0.1
    world.host.streams[0].far.close()
    world.until(lambda: "gone" in world.heard.kinds)
    assert world.links.open_hosts == []


@pytest.mark.parametrize("world", [True], indirect=True)
def test_a_link_that_was_lost_long_ago_is_tried_once_more_when_patience_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.links.open("b", start=True)
    world.host.streams[0].say(wire.HELLO)
    world.until(lambda: bool(world.heard.kinds))
    monkeypatch.setattr(links_module, "FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(links_module, "MOST_PAUSE_S", 3600.0)
    world.host.streams[0].far.close()
    world.until(lambda: "lost" in world.heard.kinds)
    time.sleep(0.3)  # longer than the patience that comes
    world.links.patience_s = 0.25
    world.until(lambda: len(world.host.streams) > 1)
    assert "gone" not in world.heard.kinds
    world.host.streams[-1].say(wire.HELLO)
    world.until(lambda: "back" in world.heard.kinds)


@pytest.mark.parametrize("world", [True, False], indirect=True)
def test_a_host_that_never_answers_is_given_up_after_some_tries(world: World) -> None:
    world.host.reachable = False
    world.links.open("b", start=True)
    world.until(lambda: "gone" in world.heard.kinds)
    assert len(world.host.streams) == links_module.RECONNECTS + 1
    assert world.heard.kinds == ["gone"]


@pytest.mark.parametrize("world", [False], indirect=True)
def test_a_local_relay_that_ends_is_replaced_at_once_and_nobody_is_told(world: World) -> None:
    world.links.open("b", start=True)
    world.host.streams[0].say(wire.HELLO)
    world.until(lambda: bool(world.heard.kinds))
    world.host.streams[0].far.close()
    world.until(lambda: len(world.host.streams) == 2)
    assert world.heard.kinds == [wire.HELLO]


@pytest.mark.parametrize("world", [False], indirect=True)
def test_an_error_in_opening_is_final(world: World) -> None:
    world.host.name = "wrong"
    world.links.open("b", start=True)
    assert world.heard.whys == ["no such host"]
