"""Whoever is killed, nothing of a run outlives its agent, and nothing else is touched."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent_client import (
    AgentClient,
    AgentHouse,
    agent_pids,
    is_alive,
    journal,
    left_alive,
    marked,
    name_is_free,
    rank_order,
    until,
)
from worker.contract import records, wire


def pids_of(agent: AgentClient) -> tuple[int, int]:
    """Agent and warden."""
    started = agent.event(records.AGENT_STARTED)
    return started["pid"], started["warden_pid"]


def training(house: AgentHouse, tmp_path: Path, *more: str, **options: float) -> tuple[AgentClient, list[int]]:
    """An agent with two ranks that do steps, each with an orphan in a session of its own without an environment."""
    folder = tmp_path / "run"
    agent = house.reach(folder, **options).command()
    agent.start([rank_order(folder, rank, f"orphan:{tmp_path}/orphan{rank}", *more, "train") for rank in (0, 1)])
    pids = agent.stepping(0, 1) + [int((tmp_path / f"orphan{rank}").read_text()) for rank in (0, 1)]
    house.watch(*pids)
    return agent, pids


def test_when_the_agent_is_killed_everything_is_gone_within_a_second(house: AgentHouse, tmp_path: Path) -> None:
    unrelated = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", "relay"])
    try:
        agent, pids = training(house, tmp_path, "deaf")
        agent_pid, warden = pids_of(agent)
        begun = time.monotonic()
        os.kill(agent_pid, signal.SIGKILL)
        until(lambda: not any(map(is_alive, pids)), "the ranks and their orphans", 1.0)
        until(lambda: not is_alive(warden), "the warden itself", 1.0)
        assert time.monotonic() - begun < 1.0
        assert left_alive(tmp_path / "run") == []
        assert unrelated.poll() is None
    finally:
        unrelated.kill()
        unrelated.wait()


def test_the_next_agent_writes_the_ends_that_the_killed_one_could_not(house: AgentHouse, tmp_path: Path) -> None:
    agent, _ = training(house, tmp_path)
    os.kill(pids_of(agent)[0], signal.SIGKILL)
    seen = agent.talk.seq
    again = house.reach(tmp_path / "run", talk=agent.talk).command(2)
    ends = [again.ended(rank) for rank in (0, 1)]
    assert [(e["state"], e["reason"]) for e in ends] == [("ended", "its agent died")] * 2
    assert again.event(records.GENERATION_ENDED)["reason"] == "the agent died"
    assert min(e["seq"] for e in again.events) == seen + 1
    again.start([rank_order(tmp_path / "run", 0, "exit:0")], generation=1)
    assert again.message(wire.REFUSED)["what"] == wire.START
    again.start([rank_order(tmp_path / "run", 0, "exit:0", generation=2)], generation=2)
    again.event(records.GENERATION_ENDED, generation=2)


def test_when_the_warden_is_killed_the_ranks_save_and_nothing_is_left(house: AgentHouse, tmp_path: Path) -> None:
    agent, pids = training(house, tmp_path)
    agent_pid, warden = pids_of(agent)
    os.kill(warden, signal.SIGKILL)
    until(lambda: not is_alive(agent_pid), "the agent")
    assert not any(map(is_alive, pids))
    written = journal(tmp_path / "run")
    assert [e["state"] for e in written if e["type"] == records.RANK_ENDED] == ["stopped", "stopped"]
    assert [e for e in written if e["type"] == records.CHECKPOINT]
    assert (written[-1]["type"], written[-1]["reason"]) == (records.AGENT_LEFT, "the agent's warden died")


def test_when_agent_and_warden_are_killed_together_the_next_agent_finds_what_was_left(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    order = rank_order(folder, 0, argv=["sh", "-c", "setsid sleep 600 & sleep 600"], stop="SIGTERM")
    agent = house.reach(folder).command().start([order])
    house.watch(*agent.started(0))
    sleepers = until(lambda: len(marked(folder)) == 3 and marked(folder), "the shell and its two")
    house.watch(*sleepers)
    for pid in reversed(pids_of(agent)):
        os.kill(pid, signal.SIGSTOP)  # so that neither acts on the other's death
    for pid in pids_of(agent):
        os.kill(pid, signal.SIGKILL)
    until(lambda: name_is_free(folder), "the name")
    assert any(map(is_alive, sleepers))
    house.reach(folder).message(wire.HELLO)
    assert not any(map(is_alive, sleepers))


def test_no_second_agent_starts_beside_the_remains_of_the_first(house: AgentHouse, tmp_path: Path) -> None:
    agent, pids = training(house, tmp_path)
    agent_pid, warden = pids_of(agent)
    lingering = pids[-1]
    hold(lingering)
    os.kill(agent_pid, signal.SIGKILL)
    until(lambda: not any(map(is_alive, pids)), "the ranks and their orphans")
    assert is_alive(warden)  # one of them cannot be reaped yet
    assert not name_is_free(tmp_path / "run")
    assert house.reach(tmp_path / "run", start=False).message(wire.ABSENT)
    second = house.reach(tmp_path / "run")
    with pytest.raises(AssertionError):
        second.wait(lambda: second.talk.hello, "a second agent", 0.5)
    os.waitpid(lingering, 0)  # lets go of it
    assert second.message(wire.HELLO)["pid"] != agent_pid
    assert not is_alive(warden)


def hold(pid: int) -> None:
    """Trace a process: from now on nobody can reap it before us, as if it hung in the kernel."""
    seize = 0x4206
    if ctypes.CDLL(None, use_errno=True).ptrace(seize, pid, None, None) != 0:
        pytest.skip(f"no process can be traced here: {os.strerror(ctypes.get_errno())}")


def test_a_killed_relay_harms_nobody(house: AgentHouse, tmp_path: Path) -> None:
    agent, pids = training(house, tmp_path)
    agent.kill_relay()
    again = house.reach(tmp_path / "run", talk=agent.talk, start=False).command(1)
    assert again.event(records.COORDINATOR_GONE)["term"] == 1
    assert all(map(is_alive, pids))
    again.send(again.talk.stop("graceful", "down"))
    assert again.event(records.GENERATION_ENDED)["reason"] == "down"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_killed_rank_failed_and_its_peers_are_rescued_or_ended(house: AgentHouse, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    broken = tmp_path / "broken"
    agent = house.reach(folder).command()
    agent.start([
        rank_order(folder, 0, f"train:{broken}"),
        rank_order(folder, 1, "train"),
        rank_order(folder, 2, "deaf", "stay"),  # no step yet: nothing to rescue
    ])  # fmt: skip
    pids = agent.stepping(0, 1) + agent.started(2)
    house.watch(*pids)
    begun = time.monotonic()
    os.kill(pids[1], signal.Signals[name])
    broken.touch()
    agent.event(records.GENERATION_ENDED)
    assert time.monotonic() - begun < 3
    ends = {rank: agent.ended(rank) for rank in (0, 1, 2)}
    assert {rank: end["state"] for rank, end in ends.items()} == {0: "rescued", 1: "failed", 2: "ended"}
    assert ends[1]["signal"] == name
    assert agent.event(records.CHECKPOINT)["why"] == "rescue"


def test_a_survivor_that_does_not_leave_is_ended_after_its_fifteen_seconds(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    go = tmp_path / "go"
    agent.start([rank_order(folder, 0, "deaf", "step:1", "stay"), rank_order(folder, 1, f"wait:{go}", "exit:1")])
    house.watch(*agent.stepping(0))
    go.touch()
    failed_at = agent.ended(1)["t"]
    ended = agent.ended(0, patience_s=25.0)
    assert ended["state"] == "ended"
    assert 15.0 < ended["t"] - failed_at < 18.0


def test_a_frozen_rank_is_found_by_its_silence(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    broken = tmp_path / "broken"
    agent.start([rank_order(folder, 0, f"train:{broken}"), rank_order(folder, 1, "step:1", "freeze")], stall_s=1.0)
    house.watch(*agent.stepping(0, 1))
    failure = agent.event(records.RANK_FAILURE)
    broken.touch()
    assert failure["rank"] == 1
    assert failure["message"].startswith("no progress for 1 s: its process is stopped (SIGSTOP")
    agent.event(records.GENERATION_ENDED)
    assert (agent.ended(0)["state"], agent.ended(1)["state"]) == ("rescued", "failed")


def test_a_rank_that_hangs_writes_down_its_stacks_before_it_is_ended(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, 0, "step:1", "stay")], stall_s=1.0)
    house.watch(*agent.stepping(0))
    (told,) = agent.event(records.STALLED)["ranks"]
    assert re.fullmatch(r"fake_trainer\.py:\d+ in <lambda>", told["at"])
    assert "most recent call first" in Path(agent.place.stacks(1, 0)).read_text()
    agent.event(records.GENERATION_ENDED)
    assert agent.ended(0)["state"] == "failed"


def test_a_rank_that_does_not_handle_the_question_is_not_asked_it(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    argv = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
    agent.start([rank_order(folder, 0, argv=argv)], start_s=1.0)
    house.watch(*agent.started(0))
    (told,) = agent.event(records.START_TIMEOUT)["ranks"]
    assert (told["waits"], told["at"]) == (None, "")
    assert agent.ended(0)["signal"] == "SIGTERM", "SIGUSR2 would have killed it"


def test_peers_that_are_not_all_there_in_time(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, 0, "phase:import", "stay"), rank_order(folder, 1, "stay")], start_s=1.0)
    house.watch(*agent.started(0, 1))
    message = agent.event(records.RANK_FAILURE)["message"]
    assert message.startswith("peers were not all there within 1 s: it stands at fake_trainer.py:")
    assert [one["rank"] for one in agent.event(records.START_TIMEOUT)["ranks"]] == [0, 1]
    agent.event(records.GENERATION_ENDED)
    assert (agent.ended(0)["state"], agent.ended(1)["state"]) == ("ended", "failed")


def test_without_a_coordinator_training_ends_with_the_lease(house: AgentHouse, tmp_path: Path) -> None:
    agent, pids = training(house, tmp_path, lease_s=1.5)
    agent_pid, warden = pids_of(agent)
    agent.hang_up()
    until(lambda: not is_alive(agent_pid) and not is_alive(warden), "the agent's leaving")
    assert not any(map(is_alive, pids))
    written = journal(tmp_path / "run")
    types = [e["type"] for e in written]
    assert types[-1] == records.AGENT_LEFT
    assert types.index(records.COORDINATOR_GONE) < types.index(records.LEASE_ENDED) < types.index(records.CHECKPOINT)
    assert [e["state"] for e in written if e["type"] == records.RANK_ENDED] == ["stopped", "stopped"]


def test_a_lease_that_is_renewed_goes_on(house: AgentHouse, tmp_path: Path) -> None:
    agent, _ = training(house, tmp_path, lease_s=1.5)
    until_t = time.monotonic() + 3.5
    while time.monotonic() < until_t:
        agent.read()
        agent.send(agent.talk.renew())
    assert not [e for e in agent.events if e["type"] == records.LEASE_ENDED]
    assert not [m for m in agent.messages if m["type"] == wire.REFUSED]


def test_without_a_coordinator_training_goes_on_to_its_end_and_the_agent_leaves(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    go = tmp_path / "go"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "step:1", f"wait:{go}", "save:2", "exit:0")])
    house.watch(*agent.stepping(0))
    agent.hang_up()
    go.touch()
    until(lambda: agent_pids(folder) == [], "the agent's leaving")
    types = [e["type"] for e in journal(folder)]
    assert types[-2:] == [records.GENERATION_ENDED, records.AGENT_LEFT]
    assert (folder / "checkpoints" / "g1-s2").is_dir()


def test_an_agent_that_is_sent_sigterm_lets_its_ranks_save(house: AgentHouse, tmp_path: Path) -> None:
    agent, pids = training(house, tmp_path)
    agent_pid, warden = pids_of(agent)
    os.kill(agent_pid, signal.SIGTERM)
    agent.event(records.GENERATION_ENDED)
    agent.hang_up()
    until(lambda: not is_alive(warden), "the end")
    assert not any(map(is_alive, pids))
    assert [e for e in journal(tmp_path / "run") if e["type"] == records.CHECKPOINT]


def test_a_rank_that_is_killed_by_somebody_is_not_said_to_have_run_out_of_memory(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "step:1", "stay")])
    (pid,) = agent.stepping(0)
    os.kill(pid, signal.SIGKILL)
    ended = agent.ended(0)
    assert (ended["signal"], ended.get("oom")) == ("SIGKILL", None)
    assert re.fullmatch(r"\d+\.\d of \d+\.\d GB", ended["memory"])


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group that takes 64 MB."""
    group = _made_group(Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
    group = group or _made_group(Path("/sys/fs/cgroup"), "memory.max")
    if group is None:
        pytest.skip("no control group of memory can be made here")
    yield group
    until(lambda: _removed(group), "the control group to be empty")


def _made_group(root: Path, limit: str) -> Path | None:
    group = root / f"launcher-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        (group / limit).write_text(str(64 << 20))
    except OSError:
        group.rmdir()
        return None
    return group


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def test_a_rank_that_the_kernel_ends_for_want_of_memory_is_known_by_the_kernels_own_records(
    house: AgentHouse, tmp_path: Path, memory_group: Path
) -> None:
    folder = tmp_path / "run"
    go = tmp_path / "go"
    agent = house.reach(folder).command()
    code = (
        "import os, sys, time\n"
        "open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.02)\n"
        "b'x' * (1 << 30)\n"
    )
    argv = [sys.executable, "-I", "-S", "-c", code, str(memory_group), str(go)]
    (pid,) = agent.start([rank_order(folder, 0, argv=argv)]).started(0)
    until(lambda: str(pid) in (memory_group / "cgroup.procs").read_text().split(), "the rank in its group")
    looked = time.monotonic() + 2.5  # the agent looks at the kernel's counts once a second
    agent.wait(lambda: time.monotonic() > looked, "a look")
    go.touch()
    ended = agent.ended(0)
    assert (ended["signal"], ended["memory"].endswith(" of 0.1 GB")) == ("SIGKILL", True), ended
    assert ended["oom"]
