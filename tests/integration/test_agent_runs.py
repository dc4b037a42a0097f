"""Real agents with real processes: how ranks start, tell, are stopped and end."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.agent_client import WORKER, AgentHouse, is_alive, journal, rank_order, until
from worker.contract import records, wire
from worker.contract.layout import HostFolder


def test_a_cluster_starts_trains_and_finishes(house: AgentHouse, tmp_path: Path) -> None:
    agent = house.reach(tmp_path / "run").command()
    folder = tmp_path / "run"
    chief = ["phase:import", "step:5", "epoch:1", "save:5", "output:model.keras", "result", "write:done", "exit:0"]
    agent.start([rank_order(folder, 0, *chief), rank_order(folder, 1, "step:5", "epoch:1", "exit:0")])
    house.watch(*agent.started(0, 1))
    assert agent.event(records.GENERATION_ENDED)["reason"] == "finished"
    assert [agent.ended(rank)["state"] for rank in (0, 1)] == ["finished", "finished"]
    assert [e["rank"] for e in agent.events if e["type"] == records.RANK_EPOCH] == [0]
    assert agent.event(records.RANK_EPOCH)["val_loss"] is None  # it was not finite
    assert agent.event(records.RANK_RESULT)["model"] == "output/model.keras"
    assert (folder / "output" / "model.keras").read_text() == "by g1"
    assert agent.event(records.CHECKPOINT)["name"] == "g1-s5"
    assert Path(HostFolder(str(folder)).log(1, 0)).read_text() == "done\n"
    assert agent.events == journal(folder)


def test_files_and_folders_are_their_owners_only(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "step:1", "save:1", "output:a", "exit:0")])
    agent.event(records.GENERATION_ENDED)
    found = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    assert len(found) > 10
    loose = [str(path) for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert loose == []


def test_a_rank_gets_its_environment_and_none_of_another_launchers(
    house: AgentHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setenv("LAUNCHER_RESUME_DIR", "/of/another/run")
    monkeypatch.setenv("TF_CONFIG", "of another run")
    monkeypatch.setenv("COLOUR", "blue")
    order = rank_order(folder, 0, f"env:{tmp_path}/env", "exit:0", secrets={"API_KEY": "hidden"})
    agent = house.reach(folder).command().start([order])
    agent.event(records.GENERATION_ENDED)
    env = json.loads((tmp_path / "env").read_text())
    assert (env["COLOUR"], env["API_KEY"], env["LAUNCHER_RANK"]) == ("blue", "hidden", "0")
    assert env["TMPDIR"] == HostFolder(str(folder)).rank_tmp(1, 0)
    assert "LAUNCHER_CONTROL_FD" in env
    assert "LAUNCHER_RESUME_DIR" not in env
    assert "TF_CONFIG" not in env
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"hidden" not in written


def test_a_rank_has_no_descriptor_terminal_or_session_of_the_agents(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    orders = [rank_order(folder, rank, "step:1", "stay") for rank in (0, 1)]
    agent = house.reach(folder).command().start(orders)
    pids = agent.stepping(0, 1)  # by then Python has closed the script that it was started with
    for pid in pids:
        house.watch(pid)
        links = {int(fd.name): str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        assert links[0] == "/dev/null"
        assert links[1] == links[2]
        assert links[1].endswith(".log")
        own = f"rank{pids.index(pid)}.stacks"  # where it dumps its stacks when it is asked
        others = {fd: link for fd, link in links.items() if fd > 2 and not link.endswith(own)}
        assert all(link.startswith("pipe:") for link in others.values()), others
        assert len(others) <= 1
        assert os.getsid(pid) == pid
    agent_pid = agent.talk.hello["pid"] if agent.talk.hello else 0
    links = {int(fd.name): str(fd.readlink()) for fd in Path(f"/proc/{agent_pid}/fd").iterdir()}
    assert links[0] == "/dev/null"
    assert links[2] == str(folder / "agent.log")
    assert str(Path(f"/proc/{agent_pid}/cwd").readlink()) == "/"
    assert Path(f"/proc/{agent_pid}/stat").read_text().rpartition(")")[2].split()[4] == "0"  # no terminal


def test_a_graceful_stop_saves_a_checkpoint(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "train"), rank_order(folder, 1, "train")])
    house.watch(*agent.stepping(0, 1))
    agent.send(agent.talk.stop("graceful", "down"))
    assert agent.event(records.GENERATION_ENDED)["reason"] == "down"
    assert [(agent.ended(rank)["state"], agent.ended(rank)["exit_code"]) for rank in (0, 1)] == [("stopped", 82)] * 2
    name = agent.event(records.CHECKPOINT)["name"]
    assert (folder / "checkpoints" / name / "manifest.json").exists()
    assert [e["how"] for e in agent.events if e["type"] == records.RANK_ASKED_TO_STOP] == ["message", "message"]


def test_a_stop_now_takes_a_second_even_if_ranks_are_deaf(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, 0, "deaf", "step:1", "stay"), rank_order(folder, 1, "step:1", "freeze")])
    house.watch(*agent.stepping(0, 1))
    begun = time.monotonic()
    agent.send(agent.talk.stop("now", "down --now"))
    agent.event(records.GENERATION_ENDED)
    assert time.monotonic() - begun < 3
    assert [agent.ended(rank)["state"] for rank in (0, 1)] == ["stopped", "stopped"]


def test_a_program_is_asked_with_sigterm_and_its_whole_group_hears_it(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    order = rank_order(folder, 0, argv=["sh", "-c", script], stop="SIGTERM")
    agent = house.reach(folder).command().start([order])
    assert agent.event(records.RANK_STARTED)["state"] == "training"
    house.watch(*agent.started(0), int(until(lambda: _text(tmp_path / "child"), "the program's child")))
    agent.send(agent.talk.stop("graceful", "down"))
    assert agent.ended(0)["state"] == "stopped"
    assert agent.ended(0)["signal"] == "SIGTERM"
    agent.event(records.GENERATION_ENDED)


def test_what_a_program_left_behind_is_gone_before_its_generation_ends(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    order = rank_order(folder, 0, f"orphan:{tmp_path}/orphan", "deaf", "stay", stop="SIGTERM")
    agent = house.reach(folder).command().start([order])
    orphan = int(until(lambda: _text(tmp_path / "orphan"), "the orphan"))
    house.watch(orphan, *agent.started(0))
    agent.send(agent.talk.stop("graceful", "down"))
    agent.event(records.GENERATION_ENDED)
    assert not is_alive(orphan)


def test_a_rank_that_finished_leaves_no_orphan_either(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, 0, f"orphan:{tmp_path}/orphan", "step:1", "exit:0")])
    agent.event(records.GENERATION_ENDED)
    assert agent.ended(0)["state"] == "finished"
    assert not is_alive(int((tmp_path / "orphan").read_text()))


@pytest.mark.parametrize(
    ("argv", "cwd", "message", "hint"),
    [
        (["no-such-program"], "", "cannot be started: No such file", "exists on this host"),
        (["/etc/passwd"], "", "cannot be started: Permission denied", "chmod +x"),
        (["true"], "/no/such/folder", "'/no/such/folder' cannot be entered", "exists on this host"),
    ],
)
def test_a_program_that_cannot_be_started_is_told_with_its_reason(
    house: AgentHouse, tmp_path: Path, argv: list[str], cwd: str, message: str, hint: str
) -> None:
    folder = tmp_path / "run"
    order = rank_order(folder, 0, argv=argv, stop="SIGTERM")
    agent = house.reach(folder).command()
    agent.start([{**order, "cwd": cwd or str(folder)}, rank_order(folder, 1, "step:1", "stay")])
    failure = agent.event(records.RANK_FAILURE)
    assert (failure["rank"], failure["reason"]) == (0, "environment")
    assert message in failure["message"]
    assert hint in failure["hint"]
    agent.event(records.GENERATION_ENDED)
    assert (agent.ended(0)["state"], agent.ended(1)["state"]) == ("failed", "ended")


def test_a_generation_follows_another_in_the_same_agent(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "step:1", "output:model.keras", "exit:0")])
    agent.event(records.GENERATION_ENDED, generation=1)
    agent.start([rank_order(folder, 0, "step:2", "output:model.keras", "exit:0", generation=2)], generation=2)
    agent.event(records.GENERATION_ENDED, generation=2)
    assert (folder / "output" / "model.keras").read_text() == "by g2"
    assert len([e for e in journal(folder) if e["type"] == records.AGENT_STARTED]) == 1


@pytest.mark.parametrize("name", ["a b'c\"d; echo $HOME `id`", "new\nline", "ümläut-日本", "-rf", "x" * 200])
def test_any_path_will_do(house: AgentHouse, tmp_path: Path, name: str) -> None:
    worker = tmp_path / name / "code"
    shutil.copytree(WORKER, worker, ignore=shutil.ignore_patterns("__pycache__", "train"))
    folder = tmp_path / name / "run"
    agent = house.reach(folder, worker=worker).command().start([rank_order(folder, 0, "step:1", "save:1", "exit:0")])
    house.watch(*agent.started(0))
    assert agent.event(records.GENERATION_ENDED)["reason"] == "finished"
    assert (folder / "checkpoints" / "g1-s1").is_dir()


@pytest.mark.parametrize("way", ["cwd", "PYTHONPATH=.", "PYTHONPATH="])
def test_a_users_modules_shadow_nothing_of_ours(house: AgentHouse, tmp_path: Path, way: str) -> None:
    user = tmp_path / "user"
    for name in ("json", "worker", "socket", "select", "dataclasses", "agent", "verbs", "contract"):
        (user / name).mkdir(parents=True)
        (user / f"{name}.py").write_text("raise SystemExit('the user’s own')\n")
        (user / name / "__init__.py").write_text("raise SystemExit('the user’s own')\n")
    env = dict(os.environ)
    if "=" in way:
        env["PYTHONPATH"] = way.partition("=")[2] + ":"
    folder = tmp_path / "run"
    agent = house.reach(folder, cwd=user, env=env).command()
    agent.send(agent.talk.status())
    assert agent.message(wire.HELLO)["host"] == "here"


def test_a_verb_that_is_not_there_is_told_on_standard_error() -> None:
    for arguments, code in (([], 2), (["dance"], 2), (["relay", "x"], 2)):
        done = subprocess.run([sys.executable, str(WORKER), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "usage" in done.stderr


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
