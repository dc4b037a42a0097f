"""What an agent publishes and keeps, and what disks and workers may do to its files without harm."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.gather.asking import Pull
from launcher.hosts.local_session import LocalSession
from tests.gather_lab import workdir
from tests.integration.agent_client import AgentHouse, journal, rank_order, until
from worker.contract import pulling, records
from worker.contract.layout import HostFolder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.getuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "small", str(place)], stderr=subprocess.DEVNULL
    )
    if not mounted:
        pytest.skip("a small file system can be made by root only")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_checkpoints_are_published_whole_and_older_ones_pruned(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, 0, "step:1", *(f"save:{n}" for n in (1, 2, 3, 10)), "exit:0")], keep=2)
    agent.event(records.GENERATION_ENDED)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["g1-s10", "g1-s3"]
    assert [e["name"] for e in agent.events if e["type"] == records.CHECKPOINT] == ["g1-s1", "g1-s2", "g1-s3", "g1-s10"]
    assert [e["name"] for e in agent.events if e["type"] == records.CHECKPOINT_PRUNED] == ["g1-s1", "g1-s2"]
    assert list(Path(HostFolder(str(folder)).rank_checkpoints(1, 0)).iterdir()) == []


def test_what_is_to_come_home_stays_until_it_is_there(house: AgentHouse, tmp_path: Path) -> None:
    folder, go = tmp_path / "run", tmp_path / "go"
    agent = house.reach(folder).command()
    saves = ["save:1", "save:2", "save:3", f"wait:{go}", "save:4", "exit:0"]
    agent.start([rank_order(folder, 0, "step:1", *saves)], keep=1, until_home=True)
    agent.event(records.CHECKPOINT, name="g1-s3")
    checkpoints = folder / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["g1-s1", "g1-s2", "g1-s3"]
    with contextlib.closing(LocalSession("h1")) as session, Pull(session, str(folder), workdir=workdir()) as pull:
        pull.at_home("g1-s2")
        pull.at_home("g1-s99")  # which it never had
        pull.listing(pulling.CHECKPOINTS)  # answered after those
    go.touch()
    agent.event(records.GENERATION_ENDED)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["g1-s1", "g1-s3", "g1-s4"]
    pruned = agent.event(records.CHECKPOINT_PRUNED)
    assert (pruned["name"], pruned.get("why")) == ("g1-s2", None)


def test_what_the_disk_has_no_room_for_goes_before_it_is_home_and_is_told(house: AgentHouse, small_disk: Path) -> None:
    agent = house.reach(small_disk / "run").command()
    agent.start([rank_order(small_disk / "run", 0, "step:1", "save:1", "save:2", "exit:0")], keep=1, until_home=True)
    agent.event(records.GENERATION_ENDED)
    assert [path.name for path in (small_disk / "run/checkpoints").iterdir()] == ["g1-s2"]
    pruned = agent.event(records.CHECKPOINT_PRUNED)
    assert (pruned["name"], pruned["why"]) == ("g1-s1", "the disk has no room for it, and it was not home yet")


def test_a_torn_checkpoint_is_refused_and_takes_nothings_place(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, 0, "step:1", "save:1", "save:2:torn", "exit:0")], keep=1)
    agent.event(records.GENERATION_ENDED)
    refused = agent.event(records.CHECKPOINT_REFUSED)
    assert refused["name"] == "g1-s2"
    assert "arrays.npz has 16 bytes, and 17 were written" in refused["why"]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["g1-s1"]


def test_of_two_survivors_rescues_of_one_step_one_is_kept(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    agent.start([rank_order(folder, rank, "step:7", "save:7", "exit:81") for rank in (0, 1)])
    agent.event(records.GENERATION_ENDED)
    assert len([e for e in agent.events if e["type"] == records.CHECKPOINT]) == 1
    assert not [e for e in agent.events if e["type"] == records.CHECKPOINT_REFUSED]
    for rank in (0, 1):
        assert list(Path(HostFolder(str(folder)).rank_checkpoints(1, rank)).iterdir()) == []


def test_of_two_survivors_that_do_not_hold_the_same_the_second_is_told_and_kept_apart(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder, go = tmp_path / "run", tmp_path / "go"
    agent = house.reach(folder).command()
    agent.start([
        rank_order(folder, 0, "step:7", "save:7", f"wait:{go}", "exit:81"),
        rank_order(folder, 1, "step:7", f"wait:{go}", "save:7:other", "exit:81"),
    ])  # fmt: skip
    published = agent.event(records.CHECKPOINT)
    go.touch()
    refused = agent.event(records.CHECKPOINT_REFUSED)
    assert (refused["rank"], refused["name"]) == (1, "g1-s7")
    assert refused["arrays"] != published["arrays"]
    assert "not those of the copy" in refused["why"]
    agent.event(records.GENERATION_ENDED)
    kept = Path(HostFolder(str(folder)).rank_checkpoints(1, 1)) / "g1-s7"
    assert (kept / "arrays.npz").read_bytes() == b"other weights of step 7"


def test_the_other_survivors_copy_serves_if_the_first_is_torn(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command()
    go = tmp_path / "go"
    agent.start([
        rank_order(folder, 0, "step:7", "save:7:torn", f"wait:{go}", "exit:81"),
        rank_order(folder, 1, "step:7", f"wait:{go}", "save:7", "exit:81"),
    ])  # fmt: skip
    agent.event(records.CHECKPOINT_REFUSED)
    go.touch()
    assert agent.event(records.CHECKPOINT)["rank"] == 1


def test_a_killed_rank_replaces_no_whole_output_with_its_half(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "step:1", "output:model.keras", "exit:0")])
    agent.event(records.GENERATION_ENDED, generation=1)
    does = ("step:2", "output:model.keras", "output:more", "die:SIGKILL")
    agent.start([rank_order(folder, 0, *does, generation=2)], generation=2)
    agent.event(records.GENERATION_ENDED, generation=2)
    assert (folder / "output" / "model.keras").read_text() == "by g1"
    assert (folder / "output" / "more").read_text() == "by g2"


def fill(disk: Path) -> None:
    """Write until there is no room left."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 512)


HOSTILE = """
import json, os, sys
path = os.environ["LAUNCHER_PROGRESS_FILE"]
with open(path, "ab") as f:
    f.write(b"\\x00\\xff not json\\n[1]\\nnull\\n{}\\n{\\"type\\": 5}\\n" + b"[" * 5000 + b"\\n")
    f.write(b"x" * 300000 + b"\\n")
    f.write(json.dumps({"type": "step", "step": "7"}).encode() + b"\\n")
    f.write(json.dumps({"type": "step", "step": 10 ** 40}).encode() + b"\\n")
    f.write(b'{"type": "step", "step": 3, "loss": NaN, "deep": {"a": [1]}, "long": "' + b"y" * 9000 + b'"}\\n')
    f.write(json.dumps({"type": "saved", "folder": "../../../etc", "step": 1}).encode() + b"\\n")
    f.write(json.dumps({"type": "saved", "folder": "g1-s3", "step": 1}).encode() + b"\\n")
    f.write(json.dumps({"type": "epoch", "epoch": 1, "generation": 9, "rank": 9, "seq": -1, "t": 0}).encode() + b"\\n")
    for n in range(60):
        f.write(json.dumps({"type": "failure", "reason": {"a": 1}, "message": "z" * 5000}).encode() + b"\\n")
    f.write(b'{"type": "step", "step": 4')
os.symlink("/etc", os.path.join(os.environ["LAUNCHER_CHECKPOINT_DIR"], "g1-s3"))
"""


def test_a_hostile_progress_file_harms_nothing(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (tmp_path / "hostile.py").write_text(HOSTILE)
    order = rank_order(folder, 0, argv=[sys.executable, str(tmp_path / "hostile.py")], stop="SIGTERM")
    agent = house.reach(folder).command().start([order])
    agent.event(records.GENERATION_ENDED)
    assert agent.ended(0)["state"] == "finished"
    assert agent.ended(0)["step"] == 3
    (epoch,) = [e for e in agent.events if e["type"] == records.RANK_EPOCH]
    assert (epoch["generation"], epoch["rank"]) == (1, 0)
    assert len([e for e in agent.events if e["type"] == records.RANK_FAILURE]) == 20
    refused = [e for e in agent.events if e["type"] == records.CHECKPOINT_REFUSED]
    assert [e["name"] for e in refused] == ["g1-s3"]
    assert Path("/etc/passwd").exists()
    assert not (folder / "checkpoints" / "g1-s3").exists()


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_a_progress_file_that_is_no_file_is_left_alone(house: AgentHouse, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run"
    make = {"fifo": "os.mkfifo(p)", "link": "os.symlink('/dev/zero', p)", "folder": "os.mkdir(p)"}[kind]
    code = f"import os, time; p = os.environ['LAUNCHER_PROGRESS_FILE']; {make}; time.sleep(0.5)"
    order = rank_order(folder, 0, argv=[sys.executable, "-I", "-S", "-c", code], stop="SIGTERM")
    agent = house.reach(folder).command().start([order])
    agent.event(records.GENERATION_ENDED)
    assert agent.ended(0)["state"] == "finished"


def test_a_full_disk_stops_no_training_and_its_lines_come_later(
    house: AgentHouse, tmp_path: Path, small_disk: Path
) -> None:
    folder = small_disk / "run"
    go = tmp_path / "go"
    order = rank_order(folder, 0, "step:1", f"wait:{go}", "exit:0")
    agent = house.reach(folder).command().start([order])
    house.watch(*agent.stepping(0))
    fill(small_disk)
    for _ in range(120):  # the page that the journal has still has room
        agent.send(agent.talk.command(1))
    full = agent.event(records.DISK_FULL)
    assert "No space left" in full["message"]
    go.touch()
    assert agent.ended(0)["state"] == "finished"
    assert not [e for e in journal(folder) if e["type"] == records.RANK_ENDED]
    (small_disk / "ballast").unlink()
    until(lambda: journal(folder)[-1]["type"] == records.DISK_ROOM, "the lines that were waiting")
    assert journal(folder)[-2]["type"] == records.GENERATION_ENDED
    numbers = [e["seq"] for e in journal(folder)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_start_on_a_full_disk_is_refused_with_its_reason(house: AgentHouse, small_disk: Path) -> None:
    fill(small_disk)
    subprocess.run(["mount", "-o", "remount,nr_inodes=2", str(small_disk)], check=True)
    agent = house.reach(small_disk / "run")
    assert "No space left" in agent.message("absent")["why"]


def test_a_limit_of_file_sizes_is_survived_too(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "step:1", "stay")])
    house.watch(*agent.stepping(0))
    pid = agent.event(records.AGENT_STARTED)["pid"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    agent.send(agent.talk.command(1))
    assert "File too large" in agent.event(records.DISK_FULL)["message"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: journal(folder)[-1]["type"] == records.DISK_ROOM, "the lines that were waiting")
    assert journal(folder)[-2]["type"] == records.DISK_FULL


def test_a_line_that_was_cut_short_costs_that_line_only(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    agent = house.reach(folder).command(3)
    agent.send(agent.talk.leave())
    agent.wait(lambda: agent.closed, "its leaving")
    path = Path(HostFolder(str(folder)).journal)
    last = journal(folder)[-1]["seq"]
    path.write_bytes(path.read_bytes() + b'{"t": 1.0, "type": "rank_sta')
    again = house.reach(folder).command(4)
    again.event(records.COMMANDED_BY, term=4)
    started = [e for e in journal(folder) if e["type"] == records.AGENT_STARTED][-1]
    assert started["seq"] == last + 2  # one was lost, and may have been heard of
    assert [json.loads(line) for line in path.read_bytes().splitlines() if line.endswith(b"}")] == journal(folder)


def test_a_run_folder_that_is_removed_under_a_training_run_crashes_nothing(house: AgentHouse, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    go = tmp_path / "go"
    agent = house.reach(folder).command().start([rank_order(folder, 0, "step:1", f"wait:{go}", "exit:0")])
    house.watch(*agent.stepping(0))
    folder.rename(tmp_path / "moved")
    go.touch()
    assert agent.ended(0)["state"] == "finished"
    agent.event(records.GENERATION_ENDED)
    (tmp_path / "moved").rename(folder)
