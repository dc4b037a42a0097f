"""Who shares a host: two users, two runs of one user, and hosts that share one home."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.far import Far, far_in
from tests.integration.harness import ROOT, Launcher, is_alive, launcher_in, wait_for
from tests.integration.there import folder_on, nothing_alive, same_at_home
from tests.lab.hosts import why_no_sshd
from tests.lab.netns import HOME, OTHER, OTHER_ID, NetHost, NetHosts, netns_hosts, why_no_netns
from worker.contract.layout import agent_socket

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())
needs_netns = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

WAITS = """\
import os, time
print("rank", os.environ["LAUNCHER_RANK"], "of", os.getuid(), "in", os.getcwd(), flush=True)
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.02)
print("done", flush=True)
"""


@pytest.fixture
def one(tmp_path: Path) -> Iterator[NetHosts]:
    with netns_hosts(tmp_path / "lab", 1) as hosts:
        yield hosts


@pytest.fixture
def two_users(one: NetHosts, tmp_path: Path) -> Iterator[tuple[Far, Far]]:
    """Two launchers that log in on the same host as two users of it."""
    with launcher_in(tmp_path / "mine") as mine, launcher_in(tmp_path / "theirs") as theirs:
        yield Far(mine, [one[0]]), Far(theirs, [dataclasses.replace(one[0], user=OTHER)])


def waiting(far: Far, go: Path) -> Path:
    """A spec of a program that waits for `go`; any user of the host may run its Python."""
    spec = far.program(WAITS, each=f"env: {{GO: {go}}}")
    spec.write_text(spec.read_text().replace(f"python: {sys.executable}, ", "python: /usr/bin/python3, "))
    return spec


def pid_of(launcher: Launcher, host: str = "h1") -> int:
    return int(launcher.wait_event("rank_started", host)[0]["pid"])


@needs_netns
def test_two_users_run_the_same_spec_on_one_host_at_once_and_neither_sees_or_touches_the_others(
    two_users: tuple[Far, Far],
) -> None:
    mine, theirs = two_users
    go = Path("/mnt/go")  # of the host: everybody there may look at it
    specs = [waiting(far, go) for far in two_users]
    for far, spec in zip(two_users, specs, strict=True):
        far.launcher.start("up", str(spec), "--plain")
    ours, others = pid_of(mine.launcher), pid_of(theirs.launcher)
    assert (psutil.Process(ours).uids().real, psutil.Process(others).uids().real) == (0, OTHER_ID)
    for far, spec, own, foreign in ((mine, specs[0], ours, others), (theirs, specs[1], others, ours)):
        # On this machine both launchers are the same user's; on the host they are not.
        seen = {process["pid"] for process in far.launcher.json("ps", str(spec)) if process["on"] == "h1"}
        assert own in seen
        assert foreign not in seen
    mine.launcher.run("down")
    assert not is_alive(ours)
    assert is_alive(others)
    removed = mine.launcher.json("clean", str(specs[0]), "--older-than", "0s", "--keep", "0", "--yes")
    assert {item["on"] for item in removed["items"] if item["removed"]} == {"", "h1"}
    host = mine.hosts[0]
    assert isinstance(host, NetHost)
    host.run("touch", str(go))
    wait_for(lambda: theirs.launcher.json("status")["state"] == "trained", "the other's run to end well")
    log = theirs.launcher.newest() / "hosts" / "h1" / "g1" / "rank0.log"
    assert log.read_text().startswith(f"rank 0 of {OTHER_ID} in /mnt/{OTHER}/launcher-work/far-")
    assert log.read_text().endswith("done\n")


def as_other(hosts: NetHosts, program: str, *arguments: str) -> subprocess.Popen[str]:
    """A program of the second user's on the host."""
    become = f"import os; os.setgid({OTHER_ID}); os.setuid({OTHER_ID})\n"
    argv = hosts.host(0).command("/usr/bin/python3", "-I", "-c", become + program, *arguments)
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


TAKES = """
import socket, sys
taken = socket.socket(socket.AF_UNIX)
taken.bind("\\0" + sys.argv[1])
taken.listen()
print("taken", flush=True)
sys.stdin.read()
"""
ASKS = """
import socket, sys
asking = socket.socket(socket.AF_UNIX)
asking.settimeout(20)
asking.connect("\\0" + sys.argv[1])
try:
    asking.send(b"\\0\\0\\0\\x11" + b'{"type":"status"}')
    print(repr(asking.recv(100)), flush=True)
except OSError as error:
    print("closed:", error, flush=True)
"""


@needs_netns
def test_a_user_who_takes_the_name_of_anothers_agent_is_named_and_nothing_is_started(
    one: NetHosts, tmp_path: Path
) -> None:
    held, go = tmp_path / "held", tmp_path / "go"
    with launcher_in(tmp_path / "home") as launcher:
        spec = Far(launcher, one).program("print('never')\n")
        argv = [sys.executable, str(ROOT / "tests" / "integration" / "between.py"), "up", str(spec), "--plain"]
        env = {**launcher.env, "BETWEEN_HELD": str(held), "BETWEEN_GO": str(go)}
        with subprocess.Popen(
            argv, env=env, cwd=launcher.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as up:
            wait_for(held.exists, "the checks to be over")
            name = agent_socket(f"{HOME}/launcher-work/{launcher.newest().name}/h1")[1:]
            with as_other(one, TAKES, name) as thief:
                assert thief.stdout is not None
                assert thief.stdout.readline() == "taken\n"
                go.touch()
                screen, _ = up.communicate(timeout=60)
                thief.communicate("")
        assert up.returncode == 3
        assert f"h1: user {OTHER_ID} has taken the name of this run's agent" in screen


@needs_netns
def test_another_user_who_connects_to_an_agent_gets_nothing(one: NetHosts, tmp_path: Path) -> None:
    with launcher_in(tmp_path / "home") as launcher:
        far = Far(launcher, one)
        go = tmp_path / "lab" / "h1" / "go"
        launcher.run("up", "-d", str(waiting(far, go)))
        pid_of(launcher)
        name = agent_socket(f"{HOME}/launcher-work/{launcher.newest().name}/h1")[1:]
        with as_other(one, ASKS, name) as asking:
            said, _ = asking.communicate(timeout=30)
        assert said == "b''\n" or said.startswith("closed:")
        assert launcher.json("status")["state"] == "training"
        launcher.run("down")
        nothing_alive(far)


def test_two_runs_of_one_user_on_the_same_hosts_do_not_touch_each_other(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with far_in(tmp_path) as far:
        spec = far.program(WAITS, each=f"env: {{GO: {go}}}")
        names = [far.launcher.run("up", "-d", str(spec)).stdout.strip() for _ in range(2)]
        assert len(set(names)) == 2
        runs = [far.launcher.runs / name for name in names]

        def pids(run: Path) -> list[int]:
            found = [e for host in ("h1", "h2") for e in far.launcher.events(run, host) if e["type"] == "rank_started"]
            return [event["pid"] for event in found]

        wait_for(lambda: all(len(pids(run)) == 2 for run in runs), "all four ranks")
        shown = {(p["run"], p["pid"]) for p in far.launcher.json("ps", str(spec))} | {
            (p["run"], p["pid"]) for p in far.launcher.json("ps")
        }
        assert {(name, pid) for name, run in zip(names, runs, strict=True) for pid in pids(run)} <= shown
        far.launcher.run("down", names[0])
        assert not any(is_alive(pid) for pid in pids(runs[0]))
        assert all(is_alive(pid) for pid in pids(runs[1]))
        go.touch()
        far.launcher.run("attach", names[1], "--plain")
        assert [far.launcher.json("status", name)["state"] for name in names] == ["stopped", "trained"]
        same_at_home(far, runs[1])
        nothing_alive(far)


@needs_netns
@pytest.mark.tensorflow
def test_hosts_that_share_one_home_check_train_resume_and_are_cleaned(tmp_path: Path) -> None:
    with netns_hosts(tmp_path / "lab", 2, one_home=True) as hosts, launcher_in(tmp_path / "home") as launcher:
        far = Far(launcher, hosts)
        train = "train: {dataset: fashion-mnist-mini, epochs: 1, batch_size: 500}\n"
        # Both stage, and both run setup, at the same moment.
        each = 'threads: 1, setup: ["echo $(uname -n) >> ~/setups"]'
        spec = far.spec(train, each=each)
        (spec.parent / "beside.txt").write_text("for both")
        launcher.run("check", str(spec))
        up = launcher.start("up", str(spec), "--plain")
        launcher.wait_event("rank_started", "h2", timeout_s=60)
        shown = [(p["on"], p["host"], p["rank"]) for p in launcher.json("ps", str(spec)) if p["kind"] == "worker"]
        assert {("h1", 0), ("h2", 1)} <= {(host, rank) for _, host, rank in shown}
        assert up.wait(90) == 0
        run = launcher.newest()
        same_at_home(far, run)
        assert sorted((hosts[0].home / "setups").read_text().split()) == ["h1", "h2"], "once on each machine"
        assert len(list((hosts[0].home / "launcher-work" / "code").glob("[0-9a-f]*"))) == 1
        done = launcher.run("resume", run.name, "--set", "train.epochs=2", timeout_s=120)
        assert "trained" in done.stdout
        assert {folder_on(host, run.name).name for host in hosts} == {"h1", "h2"}
        swept = launcher.json("clean", str(spec), "--older-than", "0s", "--keep", "0", "--yes")
        assert {i["on"] for i in swept["items"] if i["kind"] == "run" and i["removed"]} == {"", "h1", "h2"}
        assert not list((hosts[0].home / "launcher-work").glob("far-*"))
        nothing_alive(far)
