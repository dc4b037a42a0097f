"""Full disks during runs over SSH: on a host, and at home."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.disks import fill, small_disk
from tests.integration.far import Far, far_in
from tests.integration.harness import wait_for
from tests.integration.there import folder_on, nothing_alive, same_at_home
from tests.lab.hosts import why_no_sshd

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())

# Prints much, and goes on whether or not its lines are taken.
STUBBORN = """\
import os, time
number = 0
while not os.path.exists(os.environ["END"]):
    try:
        os.write(1, b"line %d %s\\n" % (number, b"x" * 80))
        number += 1
    except OSError:
        pass
    open(os.environ["ALIVE"] + os.environ["LAUNCHER_RANK"], "w").write(str(number))
    time.sleep(0.005)
os.write(1, b"end after %d\\n" % number)
"""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    with far_in(tmp_path) as one:
        yield one


def lines_of(log: Path) -> list[int]:
    return [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("line ")]


def remarks(far: Far) -> str:
    return "\n".join(far.launcher.json("status")["remarks"])


@pytest.mark.tensorflow
def test_training_outlives_a_full_disk_on_its_host_and_all_is_whole_when_there_is_room(tmp_path: Path) -> None:
    with far_in(tmp_path, count=1) as far, small_disk(far.hosts[0].home / "launcher-work", "120m") as disk:
        train = "train: {dataset: fashion-mnist-mini, epochs: 80, batch_size: 200}\n"
        more = "checkpoint: {every: [1 s], keep: 1}\ntimeouts: {stall: 2 s, checkpoint: 20 s}\n"
        up = far.launcher.start("up", str(far.spec(train + more, each="threads: 1")), "--plain")
        far.launcher.wait_event("checkpoint", "h1", timeout_s=90)
        run, there = far.launcher.newest(), folder_on(far.hosts[0])
        ballast = fill(disk)
        wait_for(lambda: "h1: its disk is full" in remarks(far), "the word of the full disk")
        told = remarks(far)
        assert f"df -h {there}" in told, "the next step"
        assert "h1: its disk is full" in far.launcher.run("status").stdout
        until = time.monotonic() + 4
        wait_for(lambda: time.monotonic() > until, "some time without room")
        assert far.launcher.json("status")["state"] == "training"
        ballast.unlink()
        wait_for(lambda: "there is room on its disk again" in remarks(far), "the word of room")
        if far.launcher.json("status")["state"] == "training":
            far.launcher.run("down")
        assert up.wait(60) in (0, 130)
        same_at_home(far, run)
        saved = [e["name"] for e in far.launcher.events(run, "h1") if e["type"] == "checkpoint"]
        assert (run / "hosts" / "h1" / "checkpoints" / saved[-1] / "manifest.json").exists()
        assert "its disk is full" in (far.launcher.folder / "command-0.log").read_text()
        nothing_alive(far)


def test_a_program_that_dies_of_a_full_disk_is_told_with_host_and_next_step_and_leaves_nothing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    program = (
        "import os, time\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.02)\n"
        "open('out.bin', 'wb').write(bytes(150_000_000))\n"
    )
    with far_in(tmp_path) as far, small_disk(far.hosts[1].home / "launcher-work", "120m"):
        up = far.launcher.start(
            "up", str(far.program(program, "restart: {max: 0}\n", each=f"env: {{GO: {go}}}")), "--plain"
        )
        far.launcher.wait_event("rank_started", "h2")
        go.touch()
        assert up.wait(30) == 1
        screen = (far.launcher.folder / "command-0.log").read_text()
        ending = screen[screen.index("rank 1 on h2") :]
        assert "its disk is full" in ending
        assert str(folder_on(far.hosts[1])) in ending
        nothing_alive(far)


def test_a_full_disk_at_home_stops_no_training_and_everything_comes_when_there_is_room(tmp_path: Path) -> None:
    end, alive = tmp_path / "end", tmp_path / "alive"
    with far_in(tmp_path) as far, small_disk(far.launcher.runs, "4m") as disk:
        spec = far.program(STUBBORN, each=f"env: {{END: {end}, ALIVE: {alive}}}")
        up = far.launcher.start("up", str(spec), "--plain")
        far.launcher.wait_event("rank_started", "h2")
        run = far.launcher.newest()
        ballast = fill(disk)
        log = far.launcher.folder / "command-0.log"
        wait_for(lambda: "no space left at" in log.read_text(), "the word of the full disk", 30)
        assert "training goes on" in log.read_text()
        counted = [_count(alive, rank) for rank in (0, 1)]
        wait_for(lambda: all(_count(alive, n) > c + 200 for n, c in enumerate(counted)), "both to go on")
        assert far.launcher.json("status")["state"] == "training"
        ballast.unlink()
        wait_for(lambda: "there is room again" in remarks(far), "the word of room")
        assert "no space left at" in remarks(far)
        end.touch()
        assert up.wait(30) == 0
        same_at_home(far, run)
        for rank, host in enumerate(far.hosts):
            numbers = lines_of(run / "hosts" / host.name / "g1" / f"rank{rank}.log")
            assert numbers == list(range(len(numbers)))
        nothing_alive(far)


def _count(alive: Path, rank: int) -> int:
    try:
        return int(alive.with_name(f"{alive.name}{rank}").read_text() or 0)
    except OSError:
        return 0
