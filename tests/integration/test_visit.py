"""One conversation and one process on a host, from the first question to its agent."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.check import remote
from launcher.check.errand import answer
from launcher.hosts import package
from launcher.hosts.base import RunOnHost, Stream
from launcher.hosts.ssh import SshHost
from launcher.hosts.visit import Visit, visit
from launcher.spec.model import HostSpec, Ssh
from launcher.stage.remote import There
from tests.integration.counted import Wire
from tests.plan_values import spec
from worker.contract import wire
from worker.contract.machine import ports

HOST = HostSpec("far", ssh=Ssh(alias="far"))
PATIENCE_S = 20.0


class Counted(Wire):
    """How many commands were started."""

    commands = 0

    def run(self, command: str) -> Any:
        self.commands += 1
        return super().run(command)


@pytest.fixture
def session() -> Iterator[Counted]:
    one = Counted()
    yield one
    one.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RunOnHost]:
    """A run's folder, whose agent is gone at the end."""
    folder = tmp_path / "work" / "run" / "far"
    yield RunOnHost("run", "far", str(folder), "", 60.0)
    deadline = time.monotonic() + PATIENCE_S
    while left := [p for p in psutil.process_iter() if str(tmp_path) in _environ(p) or _holds(p, tmp_path)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _environ(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("LAUNCHER_MARK", "")
    return ""


def _holds(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        links = [entry.readlink() for entry in Path(f"/proc/{process.pid}/fd").iterdir()]
        return any(str(link).startswith(str(folder)) for link in links)
    return False


def first(stream: Stream) -> wire.Message:
    """The first message of a stream. Fails if it ends without one."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        select.select([stream.fileno()], [], [], deadline - time.monotonic())
        messages, is_open = stream.receive()
        if messages:
            return messages[0]
        assert is_open, stream.complaint()
        assert time.monotonic() < deadline


def entered(session: Counted, place: RunOnHost) -> Visit:
    one = visit(session, workdir=str(Path(place.folder).parents[1]))
    one.talk.send({"type": "clock"})
    answer(one.talk, "clock", 10.0)
    return one


def host_of(session: Counted, place: RunOnHost) -> SshHost:
    return SshHost(replace(HOST, workdir=str(Path(place.folder).parents[1])), lambda: session, session)


def leave(host: SshHost, place: RunOnHost, stream: Stream) -> None:
    stream.send({"type": wire.COMMAND, "term": 1, "since": 0})
    stream.send({"type": wire.LEAVE, "term": 1})
    deadline = time.monotonic() + PATIENCE_S
    while stream.receive()[1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stream.close()
    host.drop()
    del place


def test_one_command_stages_looks_listens_and_becomes_the_relay_of_the_agent_that_it_starts(
    session: Counted, place: RunOnHost
) -> None:
    one = entered(session, place)
    with There(session, workdir="", during=one) as there:
        assert there.look(["/"]) == [("/", "folder")]
        there.copy("", f"{place.folder}/sources/none")
    found = remote.look_at_one(spec(HOST), HOST, one.talk, {}, ())
    assert found.code == one.code
    assert not found.failures
    (port,) = ports.free(31000, 31499, 1)
    one.talk.send({"type": "listen", "ports": [port], "token": "t" * 32})
    assert answer(one.talk, "listening", 10.0)["failed"] == {}
    one.talk.send({"type": "try", "targets": {"x": ["127.0.0.1", port, "t" * 32]}, "timeout_s": 1.0})
    assert answer(one.talk, "tried", 10.0)["results"]["x"][0] == ""
    host = host_of(session, place)
    host.take_over(one.channel)
    stream = host.open(place, start=True)
    hello = first(stream)
    assert (hello["type"], hello["host"], hello["code"]) == (wire.HELLO, "far", package.installed().digest)
    assert session.commands == 1
    # The agent has nothing of the visit: the port is a worker's again, and nothing of ours but its code is open.
    assert ports.free(port, port, 1) == (port,)
    agent = psutil.Process(int(hello["pid"]))
    assert agent.num_threads() == 1
    assert [end for end in agent.net_connections("inet") if end.status == "LISTEN"] == []
    leave(host, place, stream)


def test_a_visit_that_has_ended_meanwhile_is_replaced_by_a_relay_of_its_own(session: Counted, place: RunOnHost) -> None:
    one = entered(session, place)
    one.talk.end_input()  # the process there ends
    host = host_of(session, place)
    host.take_over(one.channel)
    stream = host.open(place, start=True)
    if session.commands == 1:  # that it has ended shows only now
        deadline = time.monotonic() + PATIENCE_S
        while session.commands == 1 and stream.receive()[1]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if session.commands == 1:
            stream.close()
            stream = host.open(place, start=True)
    assert first(stream)["type"] == wire.HELLO
    assert session.commands == 2
    leave(host, place, stream)


def test_code_that_an_agent_runs_from_is_in_use_though_no_command_line_names_it(
    session: Counted, place: RunOnHost
) -> None:
    one = entered(session, place)
    host = host_of(session, place)
    host.take_over(one.channel)
    stream = host.open(place, start=True)
    assert first(stream)["type"] == wire.HELLO
    stream.send({"type": wire.COMMAND, "term": 1, "since": 0})
    ours = package.installed()
    other = _another(ours)
    with There(session, workdir=one.workdir, package=other) as there:
        busy = {left.name: left.busy for left in there.left() if left.kind == "code"}
    assert busy[ours.digest]
    leave(host, place, stream)
    deadline = time.monotonic() + PATIENCE_S
    while busy[ours.digest]:
        assert time.monotonic() < deadline
        with There(session, workdir=one.workdir, package=other) as there:
            busy = {left.name: left.busy for left in there.left() if left.kind == "code"}


def _another(ours: package.Package) -> package.Package:
    """The package of another version of the launcher."""
    root = Path(package.__file__).parents[2] / "worker"
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in package._files(root)}
    files["__init__.py"] += b"# another\n"
    content = package.packed_bytes(files)
    import hashlib

    return replace(ours, digest=hashlib.sha256(content).hexdigest(), content=content)


def test_questions_may_be_sent_ahead_and_are_answered_in_order(session: Counted, place: RunOnHost) -> None:
    one = entered(session, place)
    one.talk.send({"type": "clock"})
    one.talk.send({"type": "look", "paths": ["/"]})
    one.talk.send({"type": "clock"})
    told = []
    for _ in range(3):
        frame = one.talk.receive(timeout_s=10.0)
        assert frame is not None
        told.append(frame[0]["type"])
    assert told == ["clock", "look", "clock"]
    one.talk.close()


def test_a_visitor_that_says_nothing_holds_up_nobody(session: Counted, place: RunOnHost) -> None:
    one = entered(session, place)
    (port,) = ports.free(31500, 31999, 1)
    one.talk.send({"type": "listen", "ports": [port], "token": "t" * 32})
    answer(one.talk, "listening", 10.0)
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        one.talk.send({"type": "try", "targets": {"x": ["127.0.0.1", port, "t" * 32]}, "timeout_s": 2.0})
        assert answer(one.talk, "tried", 10.0)["results"]["x"][0] == ""
        one.talk.send({"type": "clock"})
        answer(one.talk, "clock", 10.0)
    one.talk.close()
