"""Connections to an agent: who commands, who only looks, who comes back, and who behaves badly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.agent_client import (
    WORKER,
    AgentClient,
    AgentHouse,
    agent_pids,
    is_alive,
    is_listening,
    journal,
    rank_order,
    until,
)
from tests.talk import Talk
from worker.contract import layout, records, wire


def test_an_absent_agent_is_not_started_for_who_only_looks(house: AgentHouse, tmp_path: Path) -> None:
    for folder in (tmp_path / "never", tmp_path):
        agent = house.reach(folder, start=False)
        assert agent.message(wire.ABSENT)["why"] == "no agent of this run is alive here"
        assert agent.relay.wait(5) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc/no-such-place/run", "/dev/null/run"])
def test_a_folder_that_cannot_be_made_is_told(folder: str) -> None:
    agent = AgentClient(Path(folder))
    assert folder.rpartition("/")[0] in agent.message(wire.ABSENT)["why"]
    agent.hang_up()


def test_many_starters_at_once_make_one_agent(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    clients = [house.reach(folder) for _ in range(6)]
    pids = {client.message(wire.HELLO)["pid"] for client in clients}
    assert len(pids) == 1
    assert len([e for e in journal(folder) if e["type"] == records.AGENT_STARTED]) == 1
    assert agent_pids(folder)[0] in pids


def test_a_folder_under_another_name_is_the_same_run(house: AgentHouse, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    first = house.reach(tmp_path / "run").message(wire.HELLO)
    second = house.reach(tmp_path / "link").message(wire.HELLO)
    assert first["pid"] == second["pid"]


def test_two_runs_on_one_machine_do_not_touch_each_other(house: AgentHouse, tmp_path: Path) -> None:
    agents = [house.reach(tmp_path / name).command() for name in ("one", "two")]
    for name, agent in zip(("one", "two"), agents, strict=True):
        agent.start([rank_order(tmp_path / name, 0, "train")])
    pids = [agent.stepping(0)[0] for agent in agents]
    house.watch(*pids)
    agents[0].send(agents[0].talk.stop("now", "down"))
    agents[0].event(records.GENERATION_ENDED)
    assert is_alive(pids[1])
    os.kill(agents[0].event(records.AGENT_STARTED)["pid"], signal.SIGKILL)
    until(lambda: agent_pids(tmp_path / "one") == [], "the first agent's end")
    assert is_alive(pids[1])
    agents[1].send(agents[1].talk.stop("graceful", "down"))
    assert agents[1].ended(0)["state"] == "stopped"


def test_a_later_coordinator_takes_over_and_the_earlier_one_can_do_nothing(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = house.reach(folder).command(1)
    second = house.reach(folder).command(2)
    assert first.message(wire.REFUSED)["why"] == "term 2 has taken over"
    first.start([rank_order(folder, 0, "train")])
    assert first.message(wire.REFUSED, what=wire.START)["term"] == 2
    first.send(first.talk.command(1))
    assert first.message(wire.REFUSED, what=wire.COMMAND)["term"] == 2
    second.start([rank_order(folder, 0, "train")])
    house.watch(*second.stepping(0))
    assert not [e for e in first.events if e["type"] == records.RANK_STARTED]


def test_a_term_outlives_the_agent_that_knew_it(house: AgentHouse, tmp_path: Path) -> None:
    first = house.reach(tmp_path / "run").command(7)
    first.send(first.talk.leave())
    first.wait(lambda: first.closed, "its leaving")
    again = house.reach(tmp_path / "run")
    assert again.message(wire.HELLO)["term"] == 7
    again.send(again.talk.command(6))
    assert again.message(wire.REFUSED)["what"] == wire.COMMAND


def test_a_coordinator_that_comes_back_misses_nothing_and_hears_nothing_twice(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    go = tmp_path / "go"
    first = house.reach(folder).command()
    first.start([rank_order(folder, 0, "step:1", f"wait:{go}", *(f"epoch:{n}" for n in range(1, 200)), "exit:0")])
    house.watch(*first.stepping(0))
    first.kill_relay()
    viewer = house.reach(folder, start=False)
    go.touch()
    viewer.wait(lambda: any(m["type"] == wire.BEAT and m["states"] == {"0": "finished"} for m in viewer.messages), "it")
    viewer.send(viewer.talk.status())  # who speaks keeps an idle agent for a while, however slow this machine is
    viewer.message(wire.HELLO)
    again = house.reach(folder, talk=first.talk, start=False).command()
    again.event(records.GENERATION_ENDED)
    again.wait(lambda: journal(folder)[-1]["seq"] == again.talk.seq, "the last event")
    assert first.events + again.events == journal(folder)
    assert viewer.events == []


def test_status_and_stop_work_without_a_coordinator(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "train")])
    house.watch(*agent.stepping(0))
    agent.hang_up()
    viewer = house.reach(folder, start=False)
    assert viewer.message(wire.HELLO)["alive"] == [0]
    viewer.send(viewer.talk.stop("graceful", "down"))
    stopped = {"0": "stopped"}
    viewer.wait(lambda: any(m.get("states") == stopped for m in viewer.messages), "the rank's end")
    viewer.hang_up()
    until(lambda: agent_pids(folder) == [], "the agent's leaving")
    assert [e["state"] for e in journal(folder) if e["type"] == records.RANK_ENDED] == ["stopped"]


def test_a_stop_is_heard_although_its_sender_hangs_up_at_once(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "train")])
    house.watch(*agent.stepping(0))
    for _ in range(3):
        viewer = house.reach(folder, start=False)
        viewer.message(wire.HELLO)
        viewer.send(viewer.talk.stop("graceful", "down"))
        viewer.hang_up()
        assert agent.event(records.GENERATION_ENDED)["reason"] == "down"


def test_questions_on_a_closed_pipe_are_answered(house: AgentHouse, tmp_path: Path) -> None:
    house.reach(tmp_path / "run").message(wire.HELLO)
    talk = Talk(str(tmp_path / "run"), "here", "a-run", 60.0)
    asked = talk.reach(start=False) + talk.status()
    done = relay(asked)
    assert [m["type"] for m in talk.feed(done.stdout) if m["type"] != wire.BEAT] == [wire.HELLO, wire.HELLO]
    assert done.stderr == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02{}",
        b"\0\0\0\x05hello",
        wire.encode({"type": wire.STATUS}),
        wire.encode({"type": wire.REACH, "folder": "here", "host": "h", "run": "r", "start": True, "lease_s": 1}),
        wire.encode({"type": wire.REACH, "folder": "/x", "host": 5, "run": "r", "start": True, "lease_s": 1}),
        wire.encode({"type": wire.REACH, "folder": "/x", "host": "h", "run": "r", "start": True, "lease_s": "1"}),
        wire.encode({"type": wire.REACH, "folder": "/x\0y", "host": "h", "run": "r", "start": True, "lease_s": 1}),
    ],
)
def test_a_malformed_beginning_starts_nothing_and_raises_no_traceback(data: bytes) -> None:
    done = relay(data)
    assert b"Traceback" not in done.stderr
    messages = wire.Decoder(magic=True).feed(done.stdout)
    assert [m["type"] for m in messages] == ([wire.ABSENT] if data else [])


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\x04null", b"\0\0\0\x02{}", os.urandom(4000)])
def test_garbage_ends_its_own_connection_only(house: AgentHouse, tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "train")])
    (pid,) = agent.stepping(0)
    house.watch(pid)
    bad = house.reach(folder, start=False)
    bad.message(wire.HELLO)
    bad.send(b"\0\0\0\0" + data if data[:1] == b"\0" else data)
    bad.wait(lambda: bad.closed, "its end")
    assert is_alive(pid)
    agent.send(agent.talk.status())
    assert agent.message(wire.HELLO)["alive"] == [0]


def test_a_client_that_never_reads_is_dropped_and_holds_up_nobody(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "train")])
    house.watch(*agent.stepping(0))
    lazy = socket.socket(socket.AF_UNIX)
    lazy.connect(layout.agent_socket(str(folder)))
    question = wire.encode({"type": wire.STATUS}) * 500
    dropped = False
    deadline = time.monotonic() + 20
    while not dropped and time.monotonic() < deadline:  # each question has an answer, which nobody takes
        try:
            lazy.settimeout(5)
            lazy.sendall(question)
        except (BrokenPipeError, ConnectionResetError):
            dropped = True
    lazy.close()
    assert dropped
    begun = time.monotonic()
    agent.send(agent.talk.stop("graceful", "down"))
    agent.event(records.GENERATION_ENDED)
    assert time.monotonic() - begun < 3


def test_big_messages_pass_the_relay_whole(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    order = rank_order(folder, 0, f"env:{tmp_path}/env", "exit:0")
    order["env"] = {**order["env"], **{f"BIG_{n}": chr(97 + n) * 120_000 for n in range(7)}}
    agent = house.reach(folder).command().start([order])
    agent.event(records.GENERATION_ENDED)
    env = json.loads((tmp_path / "env").read_text())
    assert [env[f"BIG_{n}"] for n in range(7)] == [chr(97 + n) * 120_000 for n in range(7)]


def test_an_idle_agent_and_its_warden_use_next_to_nothing(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    orders = [rank_order(folder, rank, "step:1", "stay") for rank in (0, 1)]
    agent = house.reach(folder).command().start(orders)
    house.watch(*agent.stepping(0, 1))
    pids = agent_pids(folder)
    assert len(pids) == 2
    before = sum(_cpu_ticks(pid) for pid in pids)
    begun = time.monotonic()
    agent.wait(lambda: time.monotonic() > begun + 2.5, "a while")
    used = (sum(_cpu_ticks(pid) for pid in pids) - before) / os.sysconf("SC_CLK_TCK")
    assert used / (time.monotonic() - begun) < 0.02
    assert sum(_private_kb(pid) for pid in pids) < 20_000


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_other_pythons_run_an_agent(house: AgentHouse, tmp_path: Path, version: str) -> None:
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    found += [Path(place, f"python{version}") for place in os.get_exec_path()]
    python = next((path for path in found if path.exists() and _runs(path, version)), None)
    if python is None:
        pytest.skip(f"no Python {version} here")
    folder = tmp_path / "run"
    agent = house.reach(folder, python=str(python)).command()
    agent.start([rank_order(folder, 0, "step:1", "save:1", "output:a", f"orphan:{tmp_path}/orphan", "exit:0")])
    agent.event(records.GENERATION_ENDED)
    assert agent.event(records.AGENT_STARTED)["python"].startswith(version)
    assert agent.event(records.CHECKPOINT)["name"] == "g1-s1"
    assert not is_alive(int((tmp_path / "orphan").read_text()))
    assert is_listening(folder)


def relay(data: bytes) -> subprocess.CompletedProcess[bytes]:
    """A relay that is told this and then no more."""
    line = [sys.executable, str(WORKER), "relay"]
    return subprocess.run(line, input=data, capture_output=True, timeout=20, check=False)


def _runs(python: Path, version: str) -> bool:
    check = [str(python), "-c", "import sys, socket, ctypes; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _private_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
