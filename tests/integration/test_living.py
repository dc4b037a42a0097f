"""What runs have alive on hosts, found by the errand there; and the end of what nobody minds, and of nothing else."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launcher.hosts.door import enter
from launcher.hosts.local_session import LocalSession
from launcher.hosts.talk import Talk
from launcher.supervise.living import FarProcess, all_of_them, living, this_machine
from tests.integration.agent_client import AgentHouse, agents, rank_order
from tests.integration.far import Far, far_in
from tests.lab.hosts import why_no_sshd
from worker.contract import names, records

# A host with processes of its own: what it runs first is alive there for as long as the command that follows.
OWN_PIDS = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "/bin/sh", "-c")


def why_no_pids() -> str:
    try:
        done = subprocess.run([*OWN_PIDS, "true"], capture_output=True, check=False)
    except OSError:
        return "unshare is not here"
    return "" if done.returncode == 0 else "no space of pids of its own can be made here"


@pytest.fixture
def house() -> Iterator[AgentHouse]:
    with agents() as house:
        yield house


def look(workdir: Path, *sessions: LocalSession, kill: bool = False) -> list[FarProcess]:
    found, failed = living(
        {s.name: str(workdir) for s in sessions}, {s.name: s for s in sessions}, kill=all_of_them if kill else None
    )
    assert failed == {}
    return found


def ask_to_kill(workdir: Path, *wanted: FarProcess, offset: int = 0) -> list[int]:
    session = LocalSession("far")
    talk = Talk("far", enter(session, "living", workdir=str(workdir)))
    try:
        talk.send({"type": "kill", "processes": [[one.pid, one.start_time + offset] for one in wanted]})
        frame = talk.receive(timeout_s=30.0)
        assert frame is not None
        return list(frame[0]["killed"])
    finally:
        talk.close()
        session.close()


def test_an_agent_its_warden_and_its_ranks_are_found_and_minded_and_told_once_for_one_machine(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, rank, f"orphan:{tmp_path}/orphan{rank}", "train") for rank in (0, 1)])
    ranks = agent.stepping(0, 1)
    orphans = [int((tmp_path / f"orphan{rank}").read_text()) for rank in (0, 1)]
    house.watch(*orphans)
    told = agent.event(records.AGENT_STARTED)
    found = look(tmp_path / "work", LocalSession("a"), LocalSession("b"))
    assert len({(one.pid, one.start_time) for one in found}) == len(found)
    mine = {one.pid: one for one in found if one.pid in {told["pid"], told["warden_pid"], *ranks, *orphans}}
    assert mine[told["pid"]].kind == "agent"
    assert mine[told["warden_pid"]].kind == "warden"
    assert [(mine[pid].kind, mine[pid].run) for pid in ranks] == [("worker", "a-run")] * 2
    assert set(mine) >= set(orphans)  # without a mark, known by whom they descend from
    assert all(one.minded and one.on == "a" for one in mine.values())
    assert abs(mine[told["pid"]].created - psutil.Process(told["pid"]).create_time()) < 1.5
    assert ask_to_kill(tmp_path / "work", *mine.values()) == []


def test_the_ranks_of_a_frozen_agent_are_minded(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, 0, "train")])
    (rank,) = agent.stepping(0)
    told = agent.event(records.AGENT_STARTED)
    os.kill(told["pid"], signal.SIGSTOP)
    try:
        found = {one.pid: one for one in look(tmp_path / "work", LocalSession("far"))}
        assert found[rank].minded
    finally:
        os.kill(told["pid"], signal.SIGCONT)


def test_what_no_agent_minds_is_killed_by_pid_and_start_time(tmp_path: Path) -> None:
    mark = f"{os.getuid()}-{secrets.token_hex(12)}"
    environ = {**os.environ, names.MARK: mark, names.RUN: "a-run", names.HOST: "h", names.RANK: "3"}
    with subprocess.Popen(["sleep", "600"], env=environ) as process:
        try:
            one = next(one for one in look(tmp_path / "work", LocalSession("far")) if one.pid == process.pid)
            assert (one.minded, one.kind, one.run, one.host, one.rank) == (False, "worker", "a-run", "h", 3)
            # That would be another process, which has this pid by now.
            assert ask_to_kill(tmp_path / "work", one, offset=1) == []
            assert process.poll() is None
            assert ask_to_kill(tmp_path / "work", one) == [process.pid]
            assert process.wait(10) == -signal.SIGKILL
        finally:
            process.kill()


@pytest.mark.skipif(bool(why_no_pids()), reason=why_no_pids())
def test_only_what_nobody_minds_is_killed_on_a_host_with_processes_of_its_own(tmp_path: Path) -> None:
    minded, left = (f"{os.getuid()}-{secrets.token_hex(12)}" for _ in range(2))
    marked = " ".join(
        f"env {names.MARK}={mark} {names.RUN}=a-run {names.RANK}={rank} sleep 600 </dev/null >/dev/null 2>&1 &"
        for rank, mark in enumerate((minded, left))
    )
    session = LocalSession("far", shell=(*OWN_PIDS, f'{marked} exec /bin/sh -c "$1"', "sh"))
    with socket.socket(socket.AF_UNIX) as agents_name:
        agents_name.bind(f"\0launcher-{minded}")
        found = look(tmp_path / "work", session, kill=True)
        assert {one.rank: (one.minded, one.killed) for one in found} == {0: (True, False), 1: (False, True)}
        hidden, failed = living({"far": str(tmp_path / "work")}, {"far": session}, here=this_machine())
        assert (len(hidden), failed) == (2, {})  # it is another machine than this
    session.close()


def test_a_machine_that_is_this_one_is_left_out(house: AgentHouse, tmp_path: Path) -> None:
    house.reach(tmp_path / "run").command()
    session = LocalSession("far")
    assert look(tmp_path / "work", session) != []
    found, failed = living({"far": str(tmp_path / "work")}, {"far": session}, here=this_machine())
    assert (found, failed) == ([], {})


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    if why_no_sshd():
        pytest.skip(why_no_sshd())
    with far_in(tmp_path) as one:
        yield one


def test_ps_of_a_spec_tells_the_host_that_cannot_be_reached_and_goes_on(far: Far) -> None:
    spec = far.spec("program: [python3, program.py]\n")
    (spec.parent / "program.py").write_text("pass")
    assert isinstance(far.launcher.json("ps", str(spec)), list)
    assert all((host.home / "launcher-work" / "code").is_dir() for host in far.hosts)
    far.hosts[0].kill()
    done = far.launcher.run("ps", str(spec), check=3)
    assert "h1: " in done.stderr
    assert "h2: " not in done.stderr
    assert "Traceback" not in done.stderr
