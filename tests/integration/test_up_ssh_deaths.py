"""Deaths during runs over SSH: of agent, warden, session, terminal and coordinator, and of a host at a bad moment."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.far import Far, far_in
from tests.integration.harness import ROOT, is_alive, wait_for
from tests.integration.programs import DOUBLE_FORKS
from tests.integration.there import alive_on, folder_on, nothing_alive, same_at_home
from tests.lab.hosts import SshHost, why_no_sshd
from tests.lab.relay import relayed

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())

COUNTS = """\
import os, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
number = 0
while not stop and not os.path.exists(os.environ["END"]):
    print("line", number, "x" * 80, flush=True)
    number += 1
    time.sleep(0.01)
open(os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], "result.bin"), "wb").write(os.urandom(300000))
print("end after", number, flush=True)
"""
# A rank that heeds SIGTERM, and a grandchild that heeds nothing.
WITH_ORPHAN = DOUBLE_FORKS.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n", "", 1)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    with far_in(tmp_path) as one:
        yield one


def whole(log: Path) -> bool:
    """Whether the numbered lines are all there, in order, to the last."""
    lines = log.read_text().splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    return numbers == list(range(len(numbers))) and lines[-1] == f"end after {len(numbers)}"


def counting(far: Far, end: Path, extra: str = "") -> Path:
    """A counting program is begun on every host; the run's folder, once every rank has told something."""
    spec = far.program(COUNTS, extra, each=f"env: {{END: {end}}}")
    far.launcher.run("up", "-d", str(spec))
    run = far.launcher.newest()
    for rank, host in enumerate(far.hosts):
        log = run / "hosts" / host.name / "g1" / f"rank{rank}.log"
        wait_for(lambda log=log: log.exists() and log.stat().st_size > 500, f"lines of rank {rank}")  # type: ignore[misc]
    return run


def coordinator(far: Far) -> int:
    return int(far.launcher.json("status")["coordinator_pid"])


def told_there(host: SshHost, rank: int) -> int:
    """How much the rank has printed by now, there."""
    return (folder_on(host) / "g1" / f"rank{rank}.log").stat().st_size


@pytest.mark.parametrize(
    ("victims", "number"),
    [(("agent",), signal.SIGKILL), (("agent",), signal.SIGHUP), (("warden",), signal.SIGKILL)],
    ids=["agent-KILL", "agent-HUP", "warden-KILL"],
)
def test_whoever_minds_the_ranks_of_a_host_dies_and_nothing_is_left_there(
    far: Far, tmp_path: Path, victims: tuple[str, ...], number: signal.Signals
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    spec = far.program(WITH_ORPHAN, "restart: {max: 0}\n", each=f"env: {{PIDS: {pids}}}")
    up = far.launcher.start("up", str(spec), "--plain")
    wait_for(lambda: sum(p.name.isdigit() for p in pids.iterdir()) == 2, "the grandchildren")
    (agent,) = far.launcher.wait_event("agent_started", "h2")
    for victim in victims:
        os.kill(agent["pid" if victim == "agent" else "warden_pid"], number)
    wait_for(lambda: not alive_on(far.hosts[1]), "nothing to be left on h2", 20)
    assert up.wait(30) == 1
    assert far.launcher.json("status")["state"] == "failed"
    screen = (far.launcher.folder / "command-0.log").read_text()
    assert "h2" in screen[screen.index("failed:") :]
    nothing_alive(far)


def test_the_death_of_a_session_on_the_host_ends_nothing_and_loses_nothing(far: Far, tmp_path: Path) -> None:
    run = counting(far, tmp_path / "end")
    sshd = [p for p in psutil.Process(far.hosts[1].pid).children(recursive=True) if p.name().startswith("sshd")]
    for process in sshd:
        if process.ppid() != far.hosts[1].pid:  # all but the one that listens
            process.kill()
    far.launcher.wait_event("link_lost", host=None)
    far.launcher.wait_event("link_back", host=None)
    (tmp_path / "end").touch()
    far.launcher.run("attach", "--plain")
    assert far.launcher.json("status")["state"] == "trained"
    same_at_home(far, run)
    nothing_alive(far)


def test_a_closed_terminal_leaves_the_hosts_alone_and_down_ends_all(far: Far, tmp_path: Path) -> None:
    spec = far.program(COUNTS, each=f"env: {{END: {tmp_path / 'end'}}}")
    terminal = far.launcher.terminal("up", str(spec))
    pids = [far.launcher.wait_event("rank_started", host)[0]["pid"] for host in ("h1", "h2")]
    wait_for(lambda: "launcher attach" in terminal.read(), "the screen to say how to come back")
    terminal.hang_up()
    terminal.wait()
    size = told_there(far.hosts[1], 1)
    wait_for(lambda: told_there(far.hosts[1], 1) > size, "the rank to go on")
    assert all(is_alive(pid) for pid in pids)
    assert far.launcher.json("status")["state"] == "training"
    far.launcher.run("down")
    assert far.launcher.json("status")["state"] == "stopped"
    nothing_alive(far)


def frozen(far: Far, run: Path, end: Path, seconds: float) -> None:
    """Freeze the coordinator for so long; training goes on, and it wakes up to find everything."""
    pid = coordinator(far)
    os.kill(pid, signal.SIGSTOP)
    try:
        asleep = time.monotonic()
        before = [told_there(host, rank) for rank, host in enumerate(far.hosts)]
        wait_for(lambda: time.monotonic() - asleep > seconds, "the end of the sleep", seconds + 5)
        for rank, host in enumerate(far.hosts):
            assert told_there(host, rank) - before[rank] > 2000, "training went on all the while"
    finally:
        os.kill(pid, signal.SIGCONT)
    home = run / "hosts" / "h2" / "g1" / "rank1.log"
    wait_for(lambda: home.stat().st_size >= before[1] + 2000, "what was printed meanwhile")
    status = far.launcher.json("status")
    assert (status["state"], status["unreachable"]) == ("training", [])
    end.touch()
    far.launcher.run("attach", "--plain")
    assert far.launcher.json("status")["state"] == "trained"
    same_at_home(far, run)
    for rank, host in enumerate(far.hosts):
        assert whole(run / "hosts" / host.name / "g1" / f"rank{rank}.log")
    verdicts = [e for e in far.launcher.events(run, None) if e["type"] in ("link_lost", "cause")]
    assert verdicts == [], "who slept says nothing of others"
    nothing_alive(far)


def test_a_coordinator_that_was_frozen_wakes_up_to_everything_and_judges_nobody(far: Far, tmp_path: Path) -> None:
    # Longer than anything that waits for it: a reader of logs may be silent for 12 s, a client of an agent for 30 s.
    run = counting(far, tmp_path / "end", "timeouts: {host: 3 s, connect: 5 s}\n")
    frozen(far, run, tmp_path / "end", 33.0)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_coordinator_that_was_frozen_for_ten_minutes(far: Far, tmp_path: Path) -> None:
    frozen(far, counting(far, tmp_path / "end"), tmp_path / "end", 600.0)


def test_after_a_killed_coordinator_fetch_brings_all_that_the_run_did_without_it(far: Far, tmp_path: Path) -> None:
    run = counting(far, tmp_path / "end")
    os.kill(coordinator(far), signal.SIGKILL)
    wait_for(lambda: far.launcher.json("status")["coordinator_pid"] is None, "the coordinator's death")
    size = told_there(far.hosts[1], 1)
    wait_for(lambda: told_there(far.hosts[1], 1) > size, "the rank to go on")
    assert far.launcher.json("status")["state"] == "training"
    assert "line" in far.launcher.run("logs").stdout, "what had come home"
    (tmp_path / "end").touch()
    wait_for(lambda: not any(alive_on(host) for host in far.hosts), "the agents to leave", 20)
    far.launcher.run("fetch")
    same_at_home(far, run)
    for rank, host in enumerate(far.hosts):
        assert whole(run / "hosts" / host.name / "g1" / f"rank{rank}.log")
    there, here = (place / "output" / "result.bin" for place in (folder_on(far.hosts[0]), run / "hosts" / "h1"))
    assert here.read_bytes() == there.read_bytes()
    assert far.launcher.json("status")["state"] == "trained"
    assert "Nothing of" in far.launcher.run("down", run.name, check=None).stdout
    nothing_alive(far)


@pytest.mark.parametrize("how", ["dies", "falls silent"])
def test_a_host_that_is_lost_between_check_and_start_is_named_and_nothing_stays_on_the_others(
    tmp_path: Path, how: str
) -> None:
    with far_in(tmp_path) as direct, relayed(direct.hosts[1]) as (second, relay):
        far = Far(direct.launcher, [direct.hosts[0], dataclasses.replace(second, name="h2")])
        spec = far.program(COUNTS, "timeouts: {connect: 2 s, host: 3 s}\n", each=f"env: {{END: {tmp_path / 'end'}}}")
        held, go = tmp_path / "held", tmp_path / "go"
        argv = [sys.executable, str(ROOT / "tests" / "integration" / "between.py"), "up", str(spec), "--plain"]
        with subprocess.Popen(
            argv,
            env={**far.launcher.env, "BETWEEN_HELD": str(held), "BETWEEN_GO": str(go)},
            cwd=far.launcher.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as up:
            try:
                wait_for(held.exists, "the checks to be over")
                wait_for(lambda: not any(alive_on(host) for host in far.hosts), "the checks to have left")
                if how == "dies":
                    far.hosts[1].crash()
                else:
                    relay.freeze()
                go.touch()
                screen, _ = up.communicate(timeout=40)
            finally:
                up.kill()
        assert up.returncode == 3
        assert "h2" in screen[screen.index("not fit:") :]
        assert "launcher check" in screen[screen.index("not fit:") :]
        assert far.launcher.json("status")["state"] == "not fit"
        nothing_alive(far)
