"""Ranks that are forked off a zygote: they are what a cold start makes, nothing outlives its agent, and whatever goes
wrong with the zygote ends in a cold start. Real processes; only TensorFlow is left out."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agent_client import AgentClient, AgentHouse, is_alive, journal, left_alive, rank_order, until
from worker.contract import records
from worker.contract.layout import HostFolder
from worker.errands.living import living

FAKE = Path(__file__).with_name("fake_zygote.py")


def order(folder: Path, rank: int, *does: str, generation: int = 1, fault: str = "", **more: Any) -> dict[str, Any]:
    """A rank of the trainer, as far as the agent knows, that does what `does` says."""
    made = rank_order(folder, rank, generation=generation, argv=[sys.executable, str(FAKE), "train"], **more)
    fake = {"LAUNCHER_DOES": " ".join(does), **({"FAKE_ZYGOTE": fault} if fault else {})}
    return with_env(made, LAUNCHER_RUN="a-run", LAUNCHER_HOST="here", PYTHONUNBUFFERED="1", **fake)


def with_env(made: dict[str, Any], **env: str) -> dict[str, Any]:
    return {**made, "env": {**made["env"], **env}}


def how(agent: AgentClient, rank: int, generation: int = 1) -> bool | str:
    """True if the rank was forked, else why not, or nothing where that was not wanted."""
    started = agent.event(records.RANK_STARTED, rank=rank, generation=generation)
    assert not (started.get("forked") and started.get("cold"))
    return started.get("forked") or started.get("cold") or ""


def zygotes(agent: AgentClient) -> list[int]:
    return [int(event["pid"]) for event in agent.events if event["type"] == records.ZYGOTE_READY]


def training(house: AgentHouse, folder: Path, *more: str) -> tuple[AgentClient, list[int], int]:
    """An agent with two forked ranks that do steps: it, their pids, the zygote's."""
    agent = house.reach(folder).command().start([order(folder, rank, *more, "train") for rank in (0, 1)])
    pids = agent.stepping(0, 1)
    assert [how(agent, rank) for rank in (0, 1)] == [True, True]
    (zygote,) = zygotes(agent)
    house.watch(zygote, *pids)
    return agent, pids, zygote


def stop(agent: AgentClient, generation: int = 1) -> None:
    agent.send(agent.talk.stop("graceful", "enough"))
    agent.event(records.GENERATION_ENDED, generation=generation)


def pids_of(agent: AgentClient) -> tuple[int, int]:
    """Agent and warden."""
    started = agent.event(records.AGENT_STARTED)
    return started["pid"], started["warden_pid"]


def state_of(pid: int) -> dict[str, Any]:
    """What a process is in the kernel's eyes, as far as it must not matter how it was started."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    names = ("Umask", "PPid", "Uid", "Gid", "SigPnd", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Threads")
    links = {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return {
        **{name: status[name] for name in names},
        "descriptors": sorted("pipe" if link.startswith("pipe:") else link for link in links.values()),
        "cwd": str(Path(f"/proc/{pid}/cwd").readlink()),
        "limits": Path(f"/proc/{pid}/limits").read_text(),
        "oom": Path(f"/proc/{pid}/oom_score_adj").read_text(),
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "leads": (os.getsid(pid) == pid, os.getpgid(pid) == pid),
    }


def test_a_forked_rank_is_what_a_cold_one_is(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    states, environments = [], []
    agent = house.reach(folder).command()
    for generation, forked in ((1, True), (2, False)):
        path = tmp_path / f"env{generation}"
        made = order(folder, 0, "write:hello", f"env:{path}", "train", generation=generation, secrets={"KEY": "hidden"})
        agent.start([made], generation=generation, zygote=forked)
        (pid,) = agent.stepping(0, generation=generation)
        house.watch(pid)
        assert how(agent, 0, generation) == (forked or "")
        states.append(json.loads(json.dumps(state_of(pid)).replace(f"/g{generation}/", "/g/")))
        found = json.loads(path.read_text().replace(f"/g{generation}/", "/g/"))
        environments.append({name: found[name] for name in found if name not in ("LAUNCHER_CONTROL_FD", *CHANGING)})
        stop(agent, generation)
        assert Path(HostFolder(str(folder)).log(generation, 0)).read_text() == "hello\n"
    assert states[0] == states[1]
    assert environments[0] == environments[1]
    assert environments[0]["KEY"] == "hidden"


CHANGING = ("LAUNCHER_GENERATION", "LAUNCHER_DOES")


def test_a_secret_is_handed_over_at_the_fork_and_is_in_no_environment_of_the_zygote(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder, path = tmp_path / "run", tmp_path / "env"
    made = order(folder, 0, f"env:{path}", "train", secrets={"KEY": "hidden"})
    agent = house.reach(folder).command().start([made])
    (pid,) = agent.stepping(0)
    assert json.loads(path.read_text())["KEY"] == "hidden"
    for process in (*zygotes(agent), pid):
        assert b"hidden" not in Path(f"/proc/{process}/environ").read_bytes()
    stop(agent)
    assert b"hidden" not in b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())


def test_forked_ranks_are_told_apart_by_whoever_looks_for_processes(house: AgentHouse, tmp_path: Path) -> None:
    _, pids, zygote = training(house, tmp_path / "run")
    found = {one["pid"]: one for one in living()}
    assert [(found[pid]["rank"], found[pid]["run"], found[pid]["host"]) for pid in pids] == [
        (0, "a-run", "here"),
        (1, "a-run", "here"),
    ]
    assert [found[pid]["command"].rpartition(" ")[2] for pid in (*pids, zygote)] == ["train", "train", "zygote"]
    assert found[zygote]["rank"] is None
    assert all(found[pid]["minded"] for pid in (*pids, zygote))


@pytest.mark.parametrize(("does", "end"), [("exit:7", {"exit_code": 7}), ("die:SIGKILL", {"signal": "SIGKILL"})])
def test_the_agent_reaps_a_forked_rank_at_once(
    house: AgentHouse, tmp_path: Path, does: str, end: dict[str, Any]
) -> None:
    folder, go = tmp_path / "run", tmp_path / "go"
    agent = house.reach(folder).command().start([order(folder, 0, "step:1", f"wait:{go}", does)])
    house.watch(*agent.stepping(0))
    go.touch()
    begun = time.time()
    ended = agent.ended(0)
    assert {**ended, **end, "state": "failed"} == ended
    assert ended["t"] - begun < 0.5


def test_generations_come_off_one_zygote_and_what_ranks_leave_behind_is_gone(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    for generation in (1, 2, 3):
        broken = tmp_path / f"broken{generation}"
        orphans = [tmp_path / f"orphan{generation}.{rank}" for rank in (0, 1)]
        orders = [
            order(folder, rank, f"orphan:{orphans[rank]}", f"train:{broken}", generation=generation) for rank in (0, 1)
        ]
        agent.start(orders, generation=generation)
        pids = agent.stepping(0, 1, generation=generation)
        left = [int(path.read_text()) for path in orphans]
        house.watch(*pids, *left)
        assert [how(agent, rank, generation) for rank in (0, 1)] == [True, True]
        os.kill(pids[1], signal.SIGKILL)
        broken.touch()
        agent.event(records.GENERATION_ENDED, generation=generation)
        assert not any(is_alive(pid) for pid in [*pids, *left])
    (zygote,) = zygotes(agent)
    assert is_alive(zygote)
    assert left_alive(folder) == [*pids_of(agent), zygote]


def test_with_the_coordinator_the_zygote_goes_too(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent, _, zygote = training(house, folder)
    stop(agent)
    agent.hang_up()
    until(lambda: left_alive(folder) == [], "the end of everything")
    assert not is_alive(zygote)
    assert journal(folder)[-1]["type"] == records.AGENT_LEFT


@pytest.mark.parametrize("who", ["agent", "warden", "both"])
def test_whoever_is_killed_zygote_and_forked_ranks_are_gone(house: AgentHouse, tmp_path: Path, who: str) -> None:
    folder = tmp_path / "run"
    agent, pids, zygote = training(house, folder)
    victims = {"agent": pids_of(agent)[:1], "warden": pids_of(agent)[1:], "both": pids_of(agent)}[who]
    for pid in reversed(victims):
        os.kill(pid, signal.SIGSTOP)  # so that neither acts on the other's death
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(is_alive, [zygote, *pids])), "the end of everything", 15.0 if who == "warden" else 2.0)
    until(lambda: left_alive(folder) == [], "the end of agent and warden")


def test_an_agent_that_dies_during_the_import_leaves_nothing(house: AgentHouse, tmp_path: Path) -> None:
    folder, never = tmp_path / "run", tmp_path / "never"
    agent = house.reach(folder).command().start([order(folder, 0, "train", fault=f"slow:{never}")])
    until(lambda: len(left_alive(folder)) == 3, "the zygote")
    house.watch(*left_alive(folder))
    os.kill(pids_of(agent)[0], signal.SIGKILL)
    until(lambda: left_alive(folder) == [], "the end of everything", 2.0)


def test_a_killed_zygote_harms_no_rank_and_the_next_generation_gets_another(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent, pids, zygote = training(house, folder)
    os.kill(zygote, signal.SIGKILL)
    assert agent.event(records.ZYGOTE_ENDED)["reason"] == "it was killed by signal 9"
    assert all(map(is_alive, pids))
    stop(agent)
    assert [agent.ended(rank)["state"] for rank in (0, 1)] == ["stopped", "stopped"]
    agent.start([order(folder, 0, "train", generation=2)], generation=2)
    house.watch(*agent.stepping(0, generation=2))
    assert how(agent, 0, 2) is True
    assert len(set(zygotes(agent))) == 2


FAULTS = {
    "cannot": "the trainer cannot be imported: no module named tensorflow",
    "dies": "it was killed by signal 9",
    "hangs": "its import took too long",
    "thread": "importing the trainer left 1 threads behind",
    "gpu": "importing the trainer opened a GPU",
    "mute": "it did not answer in time",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_wrong_with_the_zygote_ends_in_a_cold_start(house: AgentHouse, tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "run"
    orders = [order(folder, rank, "step:1", "exit:0", fault=fault) for rank in (0, 1)]
    agent = house.reach(folder).command().start(orders, start_s=3.0 if fault == "hangs" else 60.0)
    assert agent.event(records.GENERATION_ENDED)["reason"] == "finished"
    assert [how(agent, rank) for rank in (0, 1)] == [FAULTS[fault]] * 2
    assert agent.event(records.ZYGOTE_ENDED)["reason"] == FAULTS[fault]
    assert left_alive(folder) == [*pids_of(agent)]
    if fault != "mute":  # it would go the same way again: no generation waits for it twice
        agent.start([order(folder, 0, "exit:0", fault=fault, generation=2)], generation=2)
        agent.event(records.GENERATION_ENDED, generation=2)
        assert how(agent, 0, 2) == FAULTS[fault]


def test_a_rank_that_crashes_at_once_is_the_last_one_to_be_forked(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([order(folder, 0, "exit:0", fault="crash")])
    agent.event(records.GENERATION_ENDED)
    assert (how(agent, 0), agent.ended(0)["signal"]) == (True, "SIGSEGV")
    agent.start([order(folder, 0, "exit:0", fault="crash", generation=2)], generation=2)
    agent.event(records.GENERATION_ENDED, generation=2)
    assert how(agent, 0, 2) == "rank 0 crashed before its first step"


@pytest.mark.parametrize("how_", ["graceful", "now"])
def test_a_stop_during_the_import_ends_ranks_that_are_not_there_yet(
    house: AgentHouse, tmp_path: Path, how_: str
) -> None:
    folder, go = tmp_path / "run", tmp_path / "go"
    orders = [order(folder, rank, "train", fault=f"slow:{go}") for rank in (0, 1)]
    agent = house.reach(folder).command().start(orders)
    until(lambda: len(left_alive(folder)) == 3, "the zygote")
    agent.send(agent.talk.stop(how_, "enough"))
    assert agent.event(records.GENERATION_ENDED)["reason"] == "enough"
    assert [agent.ended(rank)["state"] for rank in (0, 1)] == ["stopped", "stopped"]
    assert not [event for event in agent.events if event["type"] == records.RANK_STARTED]
    # The zygote goes on with its import, for the next generation.
    orders = [order(folder, rank, "step:1", "exit:0", fault=f"slow:{go}", generation=2) for rank in (0, 1)]
    agent.start(orders, generation=2)
    go.touch()
    assert agent.event(records.GENERATION_ENDED, generation=2)["reason"] == "finished"
    assert [how(agent, rank, 2) for rank in (0, 1)] == [True, True]
    assert left_alive(folder) == [*pids_of(agent), *zygotes(agent)]


def test_another_environment_is_another_zygotes(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    same = [order(folder, rank, "exit:0") for rank in (0, 1)]
    agent.start([same[0], with_env(same[1], TF_ENABLE_ONEDNN_OPTS="0")])
    agent.event(records.GENERATION_ENDED)
    assert [how(agent, rank) for rank in (0, 1)] == [True, "its environment is not that of the other ranks here"]
    other = with_env(order(folder, 0, "exit:0", generation=2), TF_ENABLE_ONEDNN_OPTS="0")
    agent.start([other], generation=2)
    agent.event(records.GENERATION_ENDED, generation=2)
    assert how(agent, 0, 2) is True
    assert agent.event(records.ZYGOTE_ENDED)["reason"] == "another environment is wanted"
    assert len(set(zygotes(agent))) == 2


def test_where_no_zygote_is_wanted_there_is_none(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([order(folder, 0, "exit:0")], zygote=False)
    agent.event(records.GENERATION_ENDED)
    program = rank_order(folder, 0, "exit:0", generation=2, stop="SIGTERM")
    agent.start([program], generation=2, zygote=True)
    agent.event(records.GENERATION_ENDED, generation=2)
    assert [how(agent, 0, generation) for generation in (1, 2)] == ["", ""]
    assert zygotes(agent) == []
