"""What a run leaves in its output folders comes home: grown, replaced, moved, and a great many small ones."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from launcher.gather.output import Limits, Output
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from tests.gather_lab import BadLink, CuttingSession, append, running, source, tree, until, write

pytestmark = pytest.mark.usefixtures("impatient")
EVENTS = "output/logs/events.out.tfevents.1.h.v2"


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_output_comes_home_as_it_is(tmp_path: Path) -> None:
    here = source(tmp_path)
    there = Path(here.folder)
    write(there / "output/model.keras", random.Random(1).randbytes(3_000_000))
    write(there / "output/deep/er/a'; echo \"b\n\tc", b"strange name")
    write(there / "output/empty", b"")
    write(there / "g1/rank0/output/notes.txt", b"of a rank")
    write(there / os.fsdecode(b"output/\xff\xfe"), b"no text")
    for name in ("g1/rank0/tmp/x", "g1/rank0/checkpoints/g1-s1/arrays.npz", "g1/rank0.log", "other/x"):
        write(there / name, b"not output")
    (there / "output/link").symlink_to("/etc/passwd")
    os.mkfifo(there / "output/pipe")
    with running(one := Output(here)):
        assert one.settle(20)
    wanted = {p: d for p, d in tree(there).items() if p.startswith("output/") or "/output/" in p}
    assert tree(here.home) == wanted
    assert len(wanted) == 5


def test_what_grows_is_added_to_and_not_sent_again(tmp_path: Path) -> None:
    here = source(tmp_path)
    there, home = Path(here.folder) / EVENTS, Path(here.home) / EVENTS
    write(there, b"x" * 100_000)
    with running(one := Output(here)):
        assert one.settle(20)
        first = inode(home)
        append(there, b"more")
        until(lambda: home.read_bytes() == there.read_bytes(), "what was added")
        assert inode(home) == first
        there.write_bytes(b"begun anew, and shorter")
        until(lambda: home.read_bytes() == there.read_bytes(), "the new beginning")


def test_what_was_replaced_takes_the_old_ones_place_at_once(tmp_path: Path) -> None:
    here = source(tmp_path)
    there, home = Path(here.folder) / "output/model.keras", Path(here.home) / "output/model.keras"
    old, new = b"a" * 500_000, b"b" * 500_000
    write(there, old)
    with running(one := Output(here)):
        assert one.settle(20)
        write(there.with_name("x"), new).replace(there)
        seen = {old}

        def replaced() -> bool:
            seen.add(home.read_bytes())
            return new in seen

        until(replaced, "the new one")
    assert seen == {old, new}  # never half of one


def test_what_an_agent_moves_is_moved_and_not_sent_again(tmp_path: Path) -> None:
    session = CuttingSession("h1", 1_500_000)
    here = source(tmp_path, lambda: session)
    there, home = Path(here.folder), Path(here.home)
    write(there / "g1/rank0/output/model.keras", random.Random(1).randbytes(1_000_000))
    write(there / "g1/rank0/output/logs/events.out.tfevents.1", b"x" * 1000)
    with running(one := Output(here)):
        assert one.settle(20)
        old = inode(home / "g1/rank0/output/model.keras")
        (there / "g1/rank0/output").rename(there / "output")
        assert one.settle(20)  # a second megabyte would not have come through
        assert one.breaks == 0
    assert tree(home) == tree(there)
    assert inode(home / "output/model.keras") == old


def test_a_great_many_small_files_over_a_link_that_breaks(tmp_path: Path) -> None:
    link = BadLink("h1", 5, 20_000, 400_000, cuts=20)
    here = source(tmp_path, link.connect)
    chance = random.Random(5)
    for number in range(2000):
        name = f"output/{number % 7}/{number}.{chance.choice(['txt', 'log', 'png'])}"
        write(Path(here.folder) / name, chance.randbytes(chance.randrange(2000)))
    with running(one := Output(here)):
        assert one.settle(90)
    assert tree(here.home) == tree(here.folder)
    assert link.connections > 3


def test_a_large_copy_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    size = 12 << 20
    sessions: list[Session] = [CuttingSession("h1", size // 2), CuttingSession("h1", size * 2 // 3)]
    here = source(tmp_path, lambda: sessions.pop(0) if sessions else LocalSession("h1"))
    write(Path(here.folder) / "output/model.keras", random.Random(2).randbytes(size))
    with running(one := Output(here)):
        assert one.settle(30)
        assert one.breaks == 1  # the rest came through a link that would not have borne the whole
    assert tree(here.home) == tree(here.folder)


def test_nothing_is_sent_again_to_a_later_coordinator(tmp_path: Path) -> None:
    here = source(tmp_path)
    write(Path(here.folder) / "output/model.keras", b"m" * 1_000_000)
    write(Path(here.folder) / EVENTS, b"e" * 1_000_000)
    with running(one := Output(here)):
        assert one.settle(20)
    inodes = [inode(Path(here.home) / name) for name in ("output/model.keras", EVENTS)]
    session = CuttingSession("h1", 100_000)
    again = source(tmp_path, lambda: session)
    with running(two := Output(again)):
        assert two.settle(20)
        assert two.breaks == 0
    assert [inode(Path(here.home) / name) for name in ("output/model.keras", EVENTS)] == inodes


def test_a_file_where_a_folder_was_is_told_of_and_harms_no_other(tmp_path: Path) -> None:
    told: list[str] = []
    here = source(tmp_path)
    there = Path(here.folder)
    write(there / "output/x/inner", b"1")
    with running(one := Output(here, tell=told.append)):
        assert one.settle(20)
        (there / "output/x/inner").unlink()
        (there / "output/x").rmdir()
        write(there / "output/x", b"a file now")
        write(there / "output/y", b"another")
        assert one.settle(20)
        assert one.settle(20)
    assert (Path(here.home) / "output/y").read_bytes() == b"another"
    assert len(told) == 1
    assert "'output/x'" in told[0]


def test_limits_hold(tmp_path: Path) -> None:
    told: list[str] = []
    here = source(tmp_path)
    for number in range(20):
        write(Path(here.folder) / f"output/{number:02}", bytes(100))
    with running(one := Output(here, limits=Limits(files=10), tell=told.append)):
        assert one.settle(20)
    assert len(tree(here.home)) == 10
    assert len(told) == 1


@pytest.mark.parametrize("seed", range(2))
def test_a_program_that_writes_all_the_time_is_there_in_the_end(tmp_path: Path, seed: int) -> None:
    here = source(tmp_path, BadLink("h1", seed, 5_000, 200_000, cuts=15).connect)
    there = Path(here.folder)
    chance = random.Random(seed)
    with running(one := Output(here)):
        for _ in range(60):
            name = f"output/{chance.randrange(6)}.{chance.choice(['log', 'bin', 'tfevents.x'])}"
            act = chance.randrange(4)
            if act == 0 and (there / name).exists():
                (there / name).unlink()
            elif act == 1:
                write(there / name, chance.randbytes(chance.randrange(50_000)))
            else:
                append(there / name, chance.randbytes(chance.randrange(20_000)))
            one._pause(0.03)
        assert one.settle(60)
    at_home = tree(here.home)
    assert {path: at_home.get(path) for path in tree(there)} == tree(there)
