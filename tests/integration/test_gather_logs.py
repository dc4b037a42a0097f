"""Logs come home whole, in order, byte for byte, whatever the connection does and whatever happens to the files."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from launcher.errors import NotFitError, RunError
from launcher.gather.mirror import WINDOW, Mirror
from launcher.gather.segments import Segments
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from tests.gather_lab import BadLink, append, descriptors, running, source, tree, until, write

pytestmark = pytest.mark.usefixtures("impatient")
FILES = (
    "events.jsonl",
    "agent.log",
    "g1/rank0.log",
    "g1/rank0.progress.jsonl",
    "g1/rank0.stacks",
    "g1/rank12.log",
    "g2/rank0.log",
)


def test_everything_that_is_and_will_be_there_comes_home(tmp_path: Path) -> None:
    here = source(tmp_path)
    there = Path(here.folder)
    for name in FILES[:4]:
        write(there / name, f"{name}\n".encode() * 1000)
    write(there / "g1/rank1.log", b"")
    with running(one := Mirror(here)):
        assert one.settle(20)
        assert tree(here.home) == tree(there)
        for name in FILES:
            append(there / name, b"more without an end")
        assert one.settle(20)
        assert tree(here.home) == tree(there)
        append(there / "g1/rank0.log", b" and an end\n")
        until(lambda: tree(here.home) == tree(there), "a line that nobody asked for")


def test_what_is_no_log_stays_there(tmp_path: Path) -> None:
    here = source(tmp_path)
    there = Path(here.folder)
    write(there / "g1/rank0.log", b"a line\n")
    for name in ("code/x.py", "g1/rank0/tmp/x", "g1/rank0.log.1", "secret", "g1/rank0/output/x", "g01/rank0.log"):
        write(there / name, b"no")
    (there / "g1/rank1.log").symlink_to("/etc/passwd")
    (there / "g3").symlink_to(there / "g1")
    (there / "g1/rank2.log").mkdir()
    with running(one := Mirror(here)):
        assert one.settle(20)
    assert list(tree(here.home)) == ["g1/rank0.log"]
    for path in Path(here.home).rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("seed", range(3))
def test_a_link_that_breaks_over_and_over_loses_no_byte_and_doubles_none(tmp_path: Path, seed: int) -> None:
    link = BadLink("h1", seed, 300, 60_000, cuts=25)
    here = source(tmp_path, link.connect)
    there = Path(here.folder)
    chance = random.Random(seed)
    done = threading.Event()

    def scribble() -> None:
        for number in range(400):
            for name in FILES:
                line = b"%d %s" % (number, b"x" * chance.randrange(200)) + b"\n" * chance.randrange(2)
                append(there / name, line)
            time.sleep(0.002)
        done.set()

    writer = threading.Thread(target=scribble)
    writer.start()
    prefixes = []
    with running(one := Mirror(here)):
        while not done.is_set():
            journal = Path(here.home) / "events.jsonl"
            if journal.exists():
                prefixes.append(journal.read_bytes())
            done.wait(0.05)
        writer.join()
        assert one.settle(60)
    whole = (there / "events.jsonl").read_bytes()
    assert all(whole.startswith(prefix) for prefix in prefixes)
    assert tree(here.home) == tree(there)
    assert link.connections > 5


def test_another_coordinator_goes_on_where_a_killed_one_was(tmp_path: Path) -> None:
    here = source(tmp_path)
    there, home = Path(here.folder), Path(here.home)
    write(there / "g1/rank0.log", b"0123456789" * 400_000)
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.gather_lab import source\n"
        "from launcher.gather.mirror import Mirror\n"
        "Mirror(source(Path(sys.argv[1]))).start()\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])
    try:
        log = home / "g1/rank0.log"
        until(lambda: log.exists() and log.stat().st_size > 100_000, "the first bytes")
        with pytest.raises(RunError, match="already"):
            Mirror(here).start()
    finally:
        process.kill()
        process.wait()
    inode = log.stat().st_ino
    append(there / "g1/rank0.log", b"the end\n")
    with running(one := Mirror(here)):
        assert one.settle(20)
    assert tree(home) == tree(there)
    assert log.stat().st_ino == inode  # gone on with, not begun anew


@pytest.mark.parametrize("alive", [True, False], ids=["while it is followed", "between two connections"])
@pytest.mark.parametrize("how", ["shrank", "replaced", "rewritten"])
def test_a_file_that_is_another_one_now_begins_anew_and_the_old_one_is_kept(
    tmp_path: Path, how: str, alive: bool
) -> None:
    told: list[str] = []
    here = source(tmp_path)
    there, home = Path(here.folder) / "g1/rank0.log", Path(here.home) / "g1/rank0.log"
    old, new = b"old " * 3000, b"new\n" * 5
    write(there, old)

    def change() -> None:
        if how == "shrank":
            there.write_bytes(new)
        elif how == "replaced":
            write(there.with_name("x"), new).replace(there)
        else:
            with open(there, "r+b") as file:  # the same inode, and larger than before
                file.write(b"other" * 3000)

    first = Mirror(here, tell=told.append)
    with running(first):
        assert first.settle(20)
        if alive:
            change()
            append(there, b"more")
            # Between the old file and the new one there is none, for a moment.
            until(lambda: home.exists() and tree(home.parent)["rank0.log"] == tree(there.parent)["rank0.log"], "it")
    if not alive:
        change()
        append(there, b"more")
        with running(second := Mirror(here, tell=told.append)):
            assert second.settle(20)
    assert home.read_bytes() == there.read_bytes()
    assert home.with_name("rank0.log.1").read_bytes() == old
    assert len([text for text in told if "begun anew" in text]) == 1


def test_a_host_without_the_folder_is_asked_until_it_has_it(tmp_path: Path) -> None:
    here = source(tmp_path)
    Path(here.folder).rmdir()
    with running(one := Mirror(here)):
        until(lambda: "no folder" in one.problem, "the trouble")
        write(Path(here.folder) / "agent.log", b"now\n")
        assert one.settle(20)
        assert one.problem == ""
    assert tree(here.home) == tree(here.folder)


def test_a_host_that_cannot_be_reached_is_told_of_once_and_tried_again(tmp_path: Path) -> None:
    told: list[str] = []
    refusals = 3

    def connect() -> Session:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise NotFitError("h1 does not answer")
        return LocalSession("h1")

    here = source(tmp_path, connect)
    write(Path(here.folder) / "agent.log", b"x\n")
    with running(one := Mirror(here, tell=told.append)):
        assert one.settle(20)
    assert refusals < 0
    assert told == []  # it came back before anyone had to be told


def test_without_the_kernels_help_a_line_still_comes_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = source(tmp_path)
    there = Path(here.folder)
    (there / "agent.log").write_bytes(b"")
    # A limit of the kernel that this user has reached: told to the errand by a stand-in for its module.
    code = tmp_path / "code"
    import shutil

    import worker

    shutil.copytree(Path(worker.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__", "train"))
    (code / "errands" / "inotify.py").write_text("class Watcher: ...\ndef watcher():\n    return None\n")
    monkeypatch.setattr(
        "launcher.gather.asking.enter",
        lambda session, verb, **_: session.run(f"exec {sys.executable} -I -S {code} {verb}"),
    )
    with running(one := Mirror(here)):
        assert one.settle(20)
        append(there / "agent.log", b"a line\n")
        until(lambda: (Path(here.home) / "agent.log").read_bytes() == b"a line\n", "the line", 3.0)


def test_a_slow_reader_bounds_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Home that keeps nothing is sent no more than a window, however much there is."""
    here = source(tmp_path)
    write(Path(here.folder) / "agent.log", b"x" * (8 << 20))
    taken = 0
    held = threading.Event()
    add = Segments.add

    def slowly(self: Segments, number: int, offset: int, data: memoryview) -> None:
        nonlocal taken
        taken += len(data)
        held.wait(30)
        add(self, number, offset, data)

    monkeypatch.setattr(Segments, "add", slowly)
    with running(one := Mirror(here)):
        until(lambda: taken > 0, "the first frame")
        time.sleep(0.3)
        assert taken <= WINDOW
        held.set()
        assert one.settle(20)
    assert tree(here.home) == tree(here.folder)


def test_nothing_is_left_open(tmp_path: Path) -> None:
    here = source(tmp_path, BadLink("h1", 1, 2000, 9000, cuts=10).connect)
    for number in range(50):
        write(Path(here.folder) / f"g{number}/rank0.log", b"x" * 2000)
    before = descriptors()
    with running(one := Mirror(here)):
        assert one.settle(60)
    until(lambda: descriptors() <= before, "descriptors to be closed")
    assert tree(here.home) == tree(here.folder)
