"""Who may end what: signals, hang-ups and kill -9 of each process of a run, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.integration.harness import Launcher, is_alive, wait_for
from tests.integration.programs import DEAF, DOUBLE_FORKS, POLITE, WAITS

# What is told here is how one generation ends; that another one follows is told elsewhere.
ONCE = "restart: {max: 0}\ntimeouts: {stop: 1 s}\n"


def started(launcher: Launcher, *arguments: str, program: str = POLITE, extra: str = ONCE) -> Path:
    """A running two-rank program in the background; returns its run folder."""
    spec = launcher.program(program, extra=extra)
    launcher.start("up", str(spec), "--plain", *arguments)
    launcher.wait_event("rank_started", count=2)
    return launcher.newest()


def agent_pids(launcher: Launcher) -> tuple[int, int]:
    (event,) = launcher.wait_event("agent_started")
    return event["pid"], event["warden_pid"]


def coordinator_pid(launcher: Launcher) -> int:
    (event,) = launcher.wait_event("coordinator_started", host=None)
    return int(event["pid"])


def all_gone(launcher: Launcher, timeout_s: float = 10.0) -> None:
    wait_for(lambda: not launcher.alive(), "nothing to be alive", timeout_s)


def test_ctrl_c_once_stops_gracefully(launcher: Launcher) -> None:
    spec = launcher.program(POLITE)
    terminal = launcher.terminal("up", str(spec))
    launcher.wait_event("rank_started", count=2)
    wait_for(lambda: launcher.run("logs").stdout.count("running") == 2, "both programs")
    terminal.ctrl_c()
    assert terminal.wait() == 130
    assert launcher.run("logs").stdout.count("asked to stop") == 2
    (asked,) = launcher.wait_event("stop_requested", host=None)
    assert asked["how"] == "graceful"
    assert launcher.alive() == []


def test_ctrl_c_twice_stops_at_once(launcher: Launcher) -> None:
    spec = launcher.program(DEAF, extra="timeouts: {stop: 60 s}\n")
    terminal = launcher.terminal("up", str(spec))
    launcher.wait_event("rank_started", count=2)
    terminal.ctrl_c()
    launcher.wait_event("stop_requested", host=None)
    began = time.monotonic()
    terminal.ctrl_c()
    assert terminal.wait() == 130
    assert time.monotonic() - began < 5
    assert launcher.alive() == []


def test_sigterm_of_up_stops_gracefully(launcher: Launcher) -> None:
    spec = launcher.program(POLITE)
    up = launcher.start("up", str(spec), "--plain")
    launcher.wait_event("rank_started", count=2)
    wait_for(lambda: launcher.run("logs").stdout.count("running") == 2, "both programs")
    up.send_signal(signal.SIGTERM)
    assert up.wait(20) == 130
    assert launcher.run("logs").stdout.count("asked to stop") == 2


def test_a_closed_terminal_detaches_and_attach_shows_the_run_again(launcher: Launcher) -> None:
    launcher.env["GO"] = str(launcher.folder / "go")
    spec = launcher.program(WAITS)
    terminal = launcher.terminal("up", str(spec))
    launcher.wait_event("rank_started", count=2)
    wait_for(lambda: "launcher attach" in terminal.read(), "the screen to say how to come back")
    terminal.hang_up()
    terminal.wait()
    assert launcher.json("status")["coordinator_pid"] is not None
    attached = launcher.terminal("attach")
    wait_for(lambda: "waiting" in attached.read(), "the log lines on the new terminal")
    attached.ctrl_c()
    assert attached.wait() == 0
    assert launcher.json("status")["state"] in ("starting", "training")
    (launcher.folder / "go").touch()
    assert launcher.run("attach", "--plain").returncode == 0
    assert launcher.json("status")["state"] == "trained"


def test_up_detached_prints_the_runs_name_and_returns(launcher: Launcher) -> None:
    launcher.env["GO"] = str(launcher.folder / "go")
    spec = launcher.program(WAITS)
    name = launcher.run("up", str(spec), "--detach").stdout.strip()
    assert launcher.json("status", name)["run"] == name
    (launcher.folder / "go").touch()
    launcher.run("attach", name)
    all_gone(launcher)
    assert (launcher.runs / name / "report").is_dir()


def test_a_worker_that_is_killed_ends_the_run_within_two_seconds_and_is_named(launcher: Launcher) -> None:
    spec = launcher.program(POLITE, extra=ONCE)
    up = launcher.start("up", str(spec), "--plain")
    victim = launcher.rank_pids()[1]
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    launcher.wait_event("generation_ended")
    assert time.monotonic() - killed < 2
    assert up.wait(10) == 1
    screen = (launcher.folder / "command-0.log").read_text()
    assert "rank 1 on here was killed by SIGKILL" in screen
    assert "rank 0 on here" not in screen.split("rank 1 on here was killed")[-1]
    assert launcher.alive() == []


def test_a_killed_coordinator_leaves_training_to_its_end_and_everything_can_be_told(launcher: Launcher) -> None:
    launcher.env["GO"] = str(launcher.folder / "go")
    started(launcher, program=WAITS)
    os.kill(coordinator_pid(launcher), signal.SIGKILL)
    launcher.wait_event("coordinator_gone")
    status = launcher.json("status")
    assert status["coordinator_pid"] is None
    assert [rank["state"] for rank in status["ranks"]] == ["training", "training"]
    attached = launcher.terminal("attach", "--look")
    wait_for(lambda: "training" in attached.read(), "attach to show it")
    (launcher.folder / "go").touch()
    assert attached.wait() == 0
    all_gone(launcher)
    assert launcher.json("status")["state"] == "trained"
    assert launcher.run("logs").stdout.count("done") == 2
    assert launcher.json("report")["exit_code"] == 0


def test_a_lease_that_runs_out_stops_the_workers_and_parks_the_run(launcher: Launcher) -> None:
    started(launcher, extra="timeouts: {stop: 1 s, lease: 2 s}\n")
    os.kill(coordinator_pid(launcher), signal.SIGKILL)
    launcher.wait_event("agent_left", timeout_s=20)
    all_gone(launcher)
    assert launcher.json("status")["state"] == "parked"


def test_a_living_coordinator_renews_the_lease(launcher: Launcher) -> None:
    started(launcher, extra="timeouts: {lease: 2 s}\n")
    deadline = time.monotonic() + 4
    wait_for(lambda: time.monotonic() > deadline, "two leases to pass")
    assert launcher.json("status")["state"] == "training"
    launcher.run("down")


def test_down_asks_the_agents_when_the_coordinator_is_dead(launcher: Launcher) -> None:
    started(launcher)
    wait_for(lambda: launcher.run("logs").stdout.count("running") == 2, "both programs")
    os.kill(coordinator_pid(launcher), signal.SIGKILL)
    done = launcher.run("down")
    assert "coordinator" in done.stderr
    assert "dead" in done.stderr
    all_gone(launcher)
    assert launcher.run("logs").stdout.count("asked to stop") == 2
    assert launcher.json("status")["state"] == "stopped"


def grandchildren(launcher: Launcher) -> list[int]:
    pids = launcher.folder / "pids"
    return [int(p.read_text()) for p in pids.iterdir() if p.name.isdigit()]


def with_grandchildren(launcher: Launcher, program: str = DOUBLE_FORKS) -> list[int]:
    """A run whose ranks have grandchildren with a cleared environment in sessions of their own; their pids."""
    pids = launcher.folder / "pids"
    pids.mkdir()
    launcher.env["PIDS"] = str(pids)
    started(launcher, program=program)
    wait_for(lambda: len(grandchildren(launcher)) == 2, "the grandchildren")
    return [*grandchildren(launcher), *launcher.rank_pids()]


def test_a_killed_agent_takes_everything_of_the_run_with_it_and_nothing_else(launcher: Launcher) -> None:
    mine = with_grandchildren(launcher)
    argv = psutil.Process(mine[0]).cmdline()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *argv[3:]])
    try:
        agent, warden = agent_pids(launcher)
        os.kill(agent, signal.SIGKILL)
        wait_for(lambda: not [p for p in [*mine, agent, warden] if is_alive(p)], "all of the run to be gone", 1.0)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    wait_for(lambda: launcher.json("status")["state"] == "failed", "the run to be failed")
    all_gone(launcher)
    assert "agent" in launcher.run("report", check=None).stdout


def test_a_killed_warden_leaves_nothing_alive(launcher: Launcher) -> None:
    mine = with_grandchildren(launcher)
    agent, warden = agent_pids(launcher)
    os.kill(warden, signal.SIGKILL)
    wait_for(lambda: not [p for p in [*mine, agent, warden] if is_alive(p)], "all of the run to be gone", 15.0)
    all_gone(launcher)
    assert launcher.json("status")["state"] == "failed"


def test_ps_kills_what_outlived_both_agent_and_warden_and_nothing_that_is_minded(launcher: Launcher) -> None:
    mine = with_grandchildren(launcher, program=DOUBLE_FORKS.replace("env={}, ", ""))
    agent, warden = agent_pids(launcher)
    minded = launcher.json("ps", "--kill")
    assert {p["pid"] for p in minded} >= {agent, warden, coordinator_pid(launcher), *mine}
    assert [p for p in minded if not p["minded"] or p["killed"]] == []
    for pid in (warden, agent):
        os.kill(pid, signal.SIGSTOP)  # neither may act on the other's death
    for pid in (warden, agent):
        os.kill(pid, signal.SIGKILL)
    left = grandchildren(launcher)
    wait_for(lambda: not is_alive(agent) and not is_alive(warden), "both to be gone")
    assert [pid for pid in left if is_alive(pid)] == left
    wait_for(lambda: launcher.json("status")["state"] == "failed", "the run to be failed")
    killed = [p["pid"] for p in launcher.json("ps", "--kill") if p["killed"]]
    assert sorted(killed) == sorted(left)
    all_gone(launcher)
