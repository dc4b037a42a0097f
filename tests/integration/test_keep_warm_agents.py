"""Agents that are kept warm after their run: what the next one finds, what it refuses, and that they end. Real
processes; only TensorFlow is left out."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agent_client import (
    AgentClient,
    AgentHouse,
    agents,
    is_alive,
    journal,
    left_alive,
    name_is_free,
    rank_order,
    start_time,
    until,
)
from tests.talk import Talk
from worker.contract import layout, records

FAKE = Path(__file__).with_name("fake_zygote.py")
LONG_S = 600.0


class Warm:
    """Runs of one spec, one after the other, each with its own folder below `folder`."""

    def __init__(self, house: AgentHouse, folder: Path) -> None:
        self.house, self.folder = house, folder
        self.key = f"a-spec here {folder}"
        self.env = {**os.environ, "SSH_CONNECTION": "1"}

    def reach(self, name: str) -> AgentClient:
        talk = Talk(str(self.folder / name), "here", name, 60.0, self.key)
        return self.house.reach(self.folder / name, talk=talk, env=self.env).command()

    def order(self, name: str, rank: int = 0, *does: str, code: str = "none", **env: str) -> dict[str, Any]:
        folder = self.folder / name
        cwd = folder / "sources" / code
        cwd.mkdir(parents=True, exist_ok=True)
        made = rank_order(folder, rank, argv=[sys.executable, str(FAKE), "train"], cwd=str(cwd))
        job = '{"dataset": {"kind": "fashion-mnist-mini", "path": null}}'
        ours = {"LAUNCHER_RUN": name, "LAUNCHER_HOST": "here", "LAUNCHER_DOES": " ".join(does), "LAUNCHER_TRAIN": job}
        return {**made, "env": {**made["env"], **ours, "PYTHONUNBUFFERED": "1", **env}}

    def run(self, name: str, keep_s: float = LONG_S, **env: str) -> AgentClient:
        """A whole run of two ranks that is kept, if that can be."""
        agent = self.reach(name)
        agent.start([self.order(name, rank, "step:1", "exit:0", **env) for rank in (0, 1)])
        self.house.watch(*left_alive(self.folder / name))
        agent.event(records.GENERATION_ENDED)
        return self.leave(agent, keep_s)

    def leave(self, agent: AgentClient, keep_s: float = LONG_S) -> AgentClient:
        self.house.watch(*left_alive(Path(agent.place.root)))
        agent.send(agent.talk.leave(keep_s))
        agent.wait(lambda: agent.closed, "the end of the connection")
        return agent


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Warm]:
    with agents() as house:
        made = Warm(house, tmp_path)
        try:
            yield made
        finally:
            for pid, born in house.watched:
                if is_alive(pid) and start_time(pid) == born:
                    os.kill(pid, signal.SIGKILL)


def of(folder: Path, type_: str) -> records.Record:
    (found,) = [record for record in journal(folder) if record["type"] == type_]
    return found


def zygote(folder: Path) -> int:
    ready = [r for r in journal(folder) if r["type"] in (records.ZYGOTE_READY, records.ZYGOTE_ADOPTED)]
    return int(ready[-1]["pid"])


def all_forked(folder: Path) -> bool:
    return all(record.get("forked") for record in journal(folder) if record["type"] == records.RANK_STARTED)


def test_the_next_run_adopts_what_was_kept_and_so_does_the_one_after(warm: Warm, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two-with-a-longer-name", "3"))
    warm.run("one")
    kept = of(one, records.ZYGOTE_KEPT)
    started = of(one, records.AGENT_STARTED)
    assert (kept["seconds"], journal(one)[-1]["type"]) == (LONG_S, records.AGENT_LEFT)
    assert is_alive(kept["pid"])
    until(lambda: name_is_free(one), "the name of a run that is over")
    warm.env["SSH_CONNECTION"] = "2"  # another login is no other environment
    warm.run(two.name)
    adopted = of(two, records.ZYGOTE_ADOPTED)
    again = of(two, records.AGENT_STARTED)
    assert (adopted["pid"], adopted["start_time"], adopted["run"]) == (kept["pid"], kept["start_time"], "one")
    assert (again["pid"], again["warden_pid"], again["warm"]) == (started["pid"], started["warden_pid"], "one")
    assert all_forked(two)
    assert [r for r in journal(two) if r["type"] == records.ZYGOTE_READY] == []
    # It goes by the name of the run that it is of now.
    assert kept["pid"] in left_alive(two)
    assert kept["pid"] not in left_alive(one)
    warm.run("3")
    assert of(three, records.ZYGOTE_ADOPTED)["run"] == two.name
    assert kept["pid"] in left_alive(three)


def test_adopted_ranks_are_of_the_new_run_and_its_warden_ends_them(warm: Warm, tmp_path: Path) -> None:
    warm.run("one")
    path = tmp_path / "env"
    warm.env["ADDED"] = "by the new login"
    agent = warm.reach("two")
    agent.start([warm.order("two", 0, f"env:{path}", "train")])
    (pid,) = agent.stepping(0)
    found = path.read_text()
    assert str(tmp_path / "two") in found
    assert str(tmp_path / "one") not in found
    assert not name_is_free(tmp_path / "two")
    warm.house.watch(pid)
    os.kill(of(tmp_path / "two", records.AGENT_STARTED)["pid"], signal.SIGKILL)
    until(lambda: left_alive(tmp_path / "two") == [], "the end of all")
    until(lambda: name_is_free(tmp_path / "two"), "its name")


def test_what_is_kept_holds_nothing_of_its_run(warm: Warm, tmp_path: Path) -> None:
    one = tmp_path / "one"
    warm.run("one")
    agent, kept = of(one, records.AGENT_STARTED)["pid"], of(one, records.ZYGOTE_KEPT)["pid"]
    until(lambda: name_is_free(one), "the name")
    until(lambda: Path(f"/proc/{agent}/comm").read_text() == "launcher-kept\n", "it to be kept")
    for pid in (agent, kept):
        held = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH115, PTH208
        logs = {str(one / "agent.log"), str(one / "zygote.log")}
        assert {path for path in held if path.startswith(str(one))} <= logs
        assert len(os.listdir(f"/proc/{pid}/task")) == 1  # noqa: PTH208


REFUSALS = {
    "environment": "its environment is another one: TF_ENABLE_ONEDNN_OPTS",
    "code": "the code has been edited",
    "data": "another data set is wanted",
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_not_the_same_is_started_cold_and_the_journal_says_why(warm: Warm, tmp_path: Path, what: str) -> None:
    warm.run("one")
    kept = of(tmp_path / "one", records.ZYGOTE_KEPT)["pid"]
    order = {
        "environment": lambda: warm.order("two", 0, "exit:0", TF_ENABLE_ONEDNN_OPTS="0"),
        "code": lambda: warm.order("two", 0, "exit:0", code="another"),
        "data": lambda: warm.order("two", 0, "exit:0", LAUNCHER_TRAIN='{"dataset": {"kind": "mnist", "path": null}}'),
    }[what]()
    agent = warm.reach("two").start([order])
    agent.event(records.GENERATION_ENDED)
    ended = agent.event(records.ZYGOTE_ENDED)
    assert (ended["pid"], ended["reason"]) == (kept, f"kept warm by one, it cannot serve: {REFUSALS[what]}")
    assert zygote(tmp_path / "two") != kept
    assert all_forked(tmp_path / "two")
    assert not is_alive(kept)


def test_another_limit_is_another_start(warm: Warm, tmp_path: Path) -> None:
    warm.run("one")
    kept = of(tmp_path / "one", records.ZYGOTE_KEPT)["pid"]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
    try:
        agent = warm.reach("two").start([warm.order("two", 0, "exit:0")])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    agent.event(records.GENERATION_ENDED)
    assert agent.event(records.AGENT_STARTED)["not_warm"] == "it was started with other limits (ulimit)"
    until(lambda: not is_alive(kept), "the end of what was refused")


@pytest.mark.parametrize("who", ["agent", "zygote", "warden"])
def test_one_that_was_killed_is_not_missed(warm: Warm, tmp_path: Path, who: str) -> None:
    warm.run("one")
    started, kept = of(tmp_path / "one", records.AGENT_STARTED), of(tmp_path / "one", records.ZYGOTE_KEPT)["pid"]
    pids = {"agent": started["pid"], "zygote": kept, "warden": started["warden_pid"]}
    os.kill(pids[who], signal.SIGKILL)
    until(lambda: not any(map(is_alive, pids.values())), "the end of all three")
    warm.run("two")
    assert zygote(tmp_path / "two") != kept
    assert all_forked(tmp_path / "two")


def test_one_that_is_frozen_is_not_waited_for(warm: Warm, tmp_path: Path) -> None:
    warm.run("one")
    agent = of(tmp_path / "one", records.AGENT_STARTED)["pid"]
    until(lambda: Path(f"/proc/{agent}/comm").read_text() == "launcher-kept\n", "it to be kept")
    os.kill(agent, signal.SIGSTOP)
    two = warm.reach("two").start([warm.order("two", 0, "exit:0")])
    assert two.event(records.AGENT_STARTED)["not_warm"] == "the one that is kept warm does not answer"
    two.event(records.GENERATION_ENDED)
    # What it was offered has been withdrawn: woken, it goes on waiting, and takes nothing.
    os.kill(agent, signal.SIGCONT)
    os.kill(agent, signal.SIGTERM)
    until(lambda: left_alive(tmp_path / "one") == [], "its end")


def test_when_the_time_is_up_nothing_is_alive(warm: Warm, tmp_path: Path) -> None:
    warm.run("one", keep_s=0.3)
    until(lambda: left_alive(tmp_path / "one") == [], "the end of all")


@pytest.mark.parametrize("fault", ["fails", "leaves before", "not asked"])
def test_only_a_run_in_which_nothing_went_wrong_is_kept(warm: Warm, tmp_path: Path, fault: str) -> None:
    agent = warm.reach("one")
    if fault == "fails":
        agent.start([warm.order("one", 0, "step:1", "exit:3"), warm.order("one", 1, "step:1", "exit:0")])
    else:
        agent.start([warm.order("one", 0, "step:1", "exit:0")])
    agent.event(records.GENERATION_ENDED)
    if fault == "leaves before":
        agent.hang_up()
    else:
        warm.leave(agent, 0.0 if fault == "not asked" else LONG_S)
    until(lambda: left_alive(tmp_path / "one") == [], "the end of all")
    assert not [record for record in journal(tmp_path / "one") if record["type"] == records.ZYGOTE_KEPT]


def test_only_one_is_kept_for_a_spec(warm: Warm, tmp_path: Path) -> None:
    one, two = warm.reach("one"), warm.reach("two")
    for name, agent in (("one", one), ("two", two)):
        agent.start([warm.order(name, 0, "step:1", "exit:0")])
        agent.event(records.GENERATION_ENDED)
        warm.leave(agent)
    assert of(tmp_path / "two", records.ZYGOTE_NOT_KEPT)["reason"] == "another one is kept warm for such a run"
    until(lambda: left_alive(tmp_path / "two") == [], "the end of the second")
    assert is_alive(of(tmp_path / "one", records.ZYGOTE_KEPT)["pid"])


def test_nonsense_at_the_door_does_not_end_it(warm: Warm, tmp_path: Path) -> None:
    warm.run("one")
    for words in (b"", b"\0\0\0\2{}", os.urandom(200)):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(layout.kept_socket(warm.key))
            client.sendall(words)
    warm.run("two")
    assert of(tmp_path / "two", records.ZYGOTE_ADOPTED)["run"] == "one"
