"""`clean`: what is old and over goes, and nothing else: not what lives, is young, is a link, or is not a run's."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.hosts.local_session import LocalSession
from launcher.stage.remote import LeftRun
from launcher.supervise import sweep
from launcher.supervise.sweep import Asked, Item, Sweep
from tests.integration.agent_client import AgentHouse, agents
from tests.integration.far import Far, far_in
from tests.integration.harness import Launcher, launcher_in
from tests.lab.hosts import why_no_sshd
from worker.contract import layout, names

DAY = 86400.0
OLD = Asked(30 * DAY)


# A host on which no run of any other test's lives: with processes and a network of its own.
ALONE = ("unshare", "--pid", "--net", "--fork", "--mount-proc", "--kill-child", "/bin/sh", "-c")


def why_not_alone() -> str:
    try:
        done = subprocess.run([*ALONE, "true"], capture_output=True, check=False)
    except OSError:
        return "unshare is not here"
    return "" if done.returncode == 0 else "no space of pids of its own can be made here"


def age(path: Path, days: float = 40.0) -> Path:
    """As if nothing there had been touched for so long."""
    at = time.time() - days * DAY
    for folder, folders, files in os.walk(path, topdown=False):
        for name in (*files, *folders):
            os.utime(Path(folder, name), (at, at), follow_symlinks=False)
    os.utime(path, (at, at))
    return path


class Place:
    """A runs folder here, and the workdir of a host."""

    def __init__(self, path: Path) -> None:
        self.runs = path / "runs"
        self.workdir = path / "far' away\n" / "work"
        self.workdir.mkdir(parents=True)
        self.session = LocalSession("h")

    def run_there(self, name: str, days: float = 40.0, host: str = "h", said: str = "") -> Path:
        folder = self.workdir / name / host
        (folder / "g1").mkdir(parents=True)
        (folder / "g1/rank0.log").write_bytes(b"x" * 10_000)
        journal = {"t": 1.0, "seq": 1, "type": "agent_started", "host": host, "run": said or name}
        journal.update(pid=1, warden_pid=1 << 30, start_time=-1)  # nobody's
        (folder / "events.jsonl").write_text(json.dumps(journal) + "\n")
        age(self.workdir / name, days)
        return folder

    def run_here(self, name: str, days: float = 40.0, *, ended: bool = True) -> Path:
        folder = self.runs / name
        folder.mkdir(parents=True)
        records = [{"t": 1.0, "seq": 1, "type": "run_created", "run": name, "launched_at": 1.0, "hosts": ["h"]}]
        records.append({"t": 1.0, "seq": 2, "type": "coordinator_started", "pid": 1, "start_time": 1, "remote": ["h"]})
        records.append({"t": 1.5, "seq": 3, "type": "run_state", "state": "training", "reason": ""})
        records.append(
            {
                "t": 1.5,
                "seq": 4,
                "type": "generation_started",
                "generation": 1,
                "ranks": [{"rank": 0, "host": "h", "address": "127.0.0.1", "port": 1}],
            }
        )
        if ended:
            records.append({"t": 2.0, "seq": 5, "type": "run_ended", "state": "trained", "exit_code": 0})
        else:
            (folder / "hosts/h").mkdir(parents=True)
            alive = [
                {"t": 1.0, "seq": 1, "type": "agent_started", "host": "h", "run": name, "machine_id": "other"},
                {"t": 1.0, "seq": 2, "type": "rank_started", "generation": 1, "rank": 0, "pid": 1, "state": "training"},
            ]
            (folder / "hosts/h/events.jsonl").write_text("".join(json.dumps(r) + "\n" for r in alive))
        (folder / "events.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return age(folder, days)

    def staged(self, kind: str, days: float = 40.0) -> Path:
        folder = self.workdir / kind / secrets.token_hex(32)
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 10_000)
        return age(folder, days)

    def look(self, asked: Asked = OLD) -> Sweep:
        seen = sweep.look(self.runs, asked, {"h": str(self.workdir)}, {"h": self.session})
        assert seen.failed == {}
        return seen

    def remove(self, *items: Item) -> list[Item]:
        return sweep.remove(items, {"h": str(self.workdir)}, {"h": self.session})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    one.session.close()


@pytest.fixture
def house() -> Iterator[AgentHouse]:
    with agents() as house:
        yield house


def names_of(seen: Sweep, kind: str = "run") -> set[tuple[str, str]]:
    return {(item.on, item.name) for item in seen.items if item.kind == kind}


def test_old_runs_that_are_over_go_and_young_ones_stay(place: Place) -> None:
    here, there = place.run_here("a"), place.run_there("b")
    young = [place.run_here("c", 20), place.run_there("d", 20)]
    other = place.run_there("b", host="other")  # that host may live elsewhere, and share this disk
    seen = place.look()
    assert names_of(seen) == {("", "a"), ("h", "b")}
    assert all(item.size >= 10_000 for item in seen.items if item.on)
    assert here.exists()
    assert there.exists(), "to look removes nothing"
    assert all(item.removed for item in place.remove(*seen.items))
    assert not here.exists()
    assert not there.exists()
    assert all(path.is_dir() for path in (*young, other))
    assert names_of(place.look()) == set()


def test_the_newest_runs_are_kept_however_old_they_are(place: Place) -> None:
    for number in range(3):
        place.run_there(f"t{number}", 40 + number)
    assert names_of(place.look(Asked(30 * DAY, keep=2))) == {("h", "t2")}


def test_a_run_that_is_alive_here_is_touched_nowhere(place: Place) -> None:
    place.run_here("a", ended=False)
    place.run_there("a")
    assert names_of(place.look(Asked(0))) == set()


def test_a_run_that_is_alive_on_a_host_stays_here_too(place: Place) -> None:
    place.run_here("a")
    there = place.run_there("a")
    with subprocess.Popen(["sleep", "600"], env={**os.environ, names.MARK: layout.mark(str(there))}) as process:
        try:
            assert names_of(place.look(Asked(0))) == set()
        finally:
            process.kill()
    assert names_of(place.look(Asked(0))) == {("", "a"), ("h", "a")}


def test_what_is_no_runs_folder_is_never_told_nor_removed(place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "precious"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("mine")
    mine = place.workdir / "thesis/h"
    mine.mkdir(parents=True)
    (mine / "chapter").write_text("one")
    place.run_there("said-otherwise", said="another")
    real = place.run_there("real")
    (real / "g1/link").symlink_to(elsewhere)
    (place.workdir / "linked").symlink_to(real.parent)
    (place.workdir / "inner").mkdir()
    (place.workdir / "inner/h").symlink_to(real)
    (place.workdir / "data").symlink_to(elsewhere)
    age(place.workdir)
    seen = place.look()
    assert names_of(seen) == {("h", "real")}
    assert names_of(seen, "data") == set()
    for name in ("linked", "inner", "thesis", "said-otherwise", "..", ".", "real/../real", ""):
        item = next(item for item in seen.items if item.name == "real")
        forged = type(item.what)(**{**vars(item.what), "name": name})
        (done,) = place.remove(Item("h", "run", name, 0, 0, forged))
        assert done.error
        assert not done.removed
    assert (elsewhere / "file").read_text() == "mine"
    assert real.exists()
    assert [item.removed for item in place.remove(*(i for i in seen.items if i.name == "real"))] == [True]
    assert (elsewhere / "file").read_text() == "mine"
    assert (mine / "chapter").exists()


def test_a_run_whose_agent_or_process_is_alive_stays_and_so_does_all_that_is_staged(
    place: Place, house: AgentHouse
) -> None:
    data = place.staged("data")
    agents_own, marked = place.run_there("agent"), place.run_there("marked")
    house.reach(agents_own).command()
    environ = {**os.environ, names.MARK: layout.mark(str(marked))}
    with subprocess.Popen(["sleep", "600"], env=environ) as process:
        try:
            age(agents_own)
            seen = place.look()
            assert names_of(seen) == set()
            assert names_of(seen, "data") == set()
            assert seen.alive == ["h"]
            # As if they had come alive after they were shown.
            done = place.remove(*(_as_shown(run.parent.name) for run in (agents_own, marked)))
            assert [(item.removed, "in use" in item.error) for item in done] == [(False, True)] * 2
        finally:
            process.kill()
    assert all(path.is_dir() for path in (agents_own, marked, data))


def _as_shown(run: str) -> Item:
    return Item("h", "run", run, 0, 0, LeftRun(run, 0, time.time(), False, True))


def test_a_run_that_was_changed_after_it_was_shown_stays(place: Place) -> None:
    here, there = place.run_here("a"), place.run_there("b")
    seen = place.look()
    (here / "new").write_text("")
    (there / "new").write_text("")
    done = place.remove(*(item for item in seen.items if item.kind == "run"))
    assert [(item.removed, bool(item.error)) for item in done] == [(False, True)] * 2
    assert here.exists()
    assert there.exists()


def test_what_cannot_be_written_to_goes_too_and_so_does_what_a_cut_removal_left(place: Place) -> None:
    there = place.run_there("b")
    (there / "g1").chmod(0o500)
    rest = place.workdir / f".{secrets.token_hex(8)}.removed.tmp"
    (rest / "deep").mkdir(parents=True)
    age(rest)
    seen = place.look()
    assert names_of(seen) == {("h", "b"), ("h", rest.name)}
    assert all(item.removed for item in place.remove(*seen.items))
    assert not there.parent.exists()
    assert not rest.exists()


@pytest.mark.skipif(bool(why_not_alone()), reason=why_not_alone())
def test_staged_things_go_once_nobody_has_used_them_for_long(place: Place) -> None:
    place.session.close()
    place.session = LocalSession("h", shell=ALONE)
    old = {kind: place.staged(kind) for kind in ("code", "sources", "data", "setup")}
    just = place.staged("data", 0.01)
    seen = place.look()
    assert seen.alive == []
    assert {(i.kind, i.name) for i in seen.items} == {(kind, path.name) for kind, path in old.items()}
    assert all(item.removed for item in place.remove(*seen.items))
    assert not any(path.exists() for path in old.values())
    assert just.exists()
    assert just.name not in {i.name for i in place.look(Asked(0)).items}, "it may be on its way"


def test_a_run_here_that_is_a_link_or_has_its_coordinator_stays(place: Place, tmp_path: Path) -> None:
    elsewhere = place.run_here("a")
    moved = tmp_path / "moved"
    elsewhere.rename(moved)
    elsewhere.symlink_to(moved)
    kept = place.run_here("b")
    with socket.socket(socket.AF_UNIX) as name:
        name.bind(layout.coordinator_socket(str(kept)))
        name.listen()
        assert names_of(place.look()) == set()


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    with launcher_in(tmp_path / "home") as one:
        yield one


def test_clean_asks_on_a_terminal_and_without_one_only_shows(launcher: Launcher, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.runs = launcher.runs
    run = place.run_here("old-one")
    done = launcher.run("clean")
    assert "old-one" in done.stdout
    assert "--yes" in done.stdout
    assert launcher.json("clean")["items"][0]["removed"] is False
    assert run.exists()
    for answer, is_left in ((b"\n", True), (b"y\n", False)):
        terminal = launcher.terminal("clean")
        terminal.press(answer)
        assert terminal.wait() == 0
        assert "[y/N]" in terminal.read()
        assert run.exists() == is_left
    assert "nothing to remove" in launcher.run("clean", "--yes").stdout
    launcher.run("clean", "--older-than", "soon", check=2)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    if why_no_sshd():
        pytest.skip(why_no_sshd())
    with far_in(tmp_path) as one:
        yield one


def test_clean_of_a_spec_removes_old_runs_of_its_hosts_over_ssh_and_tells_the_one_that_is_down(far: Far) -> None:
    spec = far.program("print('done')")
    far.launcher.run("up", str(spec))
    run = far.launcher.newest()
    on_hosts = [host.home / "launcher-work" / run.name / host.name for host in far.hosts]
    assert all(path.is_dir() for path in on_hosts)
    assert far.launcher.json("clean", str(spec))["items"] == []
    for path in (run, *(path.parent for path in on_hosts)):
        age(path)
    far.hosts[1].kill()
    done = far.launcher.run("clean", str(spec), "--yes", check=3)
    assert "h2: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not run.exists()
    assert [path.parent.exists() for path in on_hosts] == [False, True]
