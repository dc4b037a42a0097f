"""Published checkpoints come home whole or not at all, resumed after cuts, held while they are fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.gather.checkpoints import Checkpoints
from launcher.gather.disk import Disk
from launcher.gather.which import ALL, NEWEST
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from tests.gather_lab import BadLink, CuttingSession, make_checkpoint, prune, running, source, tree, until
from worker.contract.checkpoints import ARRAYS, verify

pytestmark = pytest.mark.usefixtures("impatient")
SIZE = 3 << 20


def published(home: str) -> list[str]:
    folder = Path(home) / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_each_one_comes_home_as_it_is_published_and_the_oldest_go(tmp_path: Path) -> None:
    here = source(tmp_path)
    make_checkpoint(here.folder, 1)
    with running(one := Checkpoints(here, home=ALL, keep=2)):
        until(lambda: published(here.home) == ["g1-s1"], "the first")
        make_checkpoint(here.folder, 2)
        make_checkpoint(here.folder, 3)
        until(lambda: published(here.home) == ["g1-s2", "g1-s3"], "the newest two")
        assert one.settle(20)
    for name in published(here.home):
        assert verify(f"{here.home}/checkpoints/{name}") == []
        assert tree(f"{here.home}/checkpoints/{name}") == tree(f"{here.folder}/checkpoints/{name}")
    # Nothing that was held is left on the host.
    left = {path.name for path in (Path(here.folder) / "checkpoints").iterdir() if not path.name.startswith(".home-")}
    assert left == {"g1-s1", "g1-s2", "g1-s3"}


def test_only_the_newest_comes_if_that_is_all_that_is_wanted(tmp_path: Path) -> None:
    here = source(tmp_path)
    for step in (1, 2, 3):
        make_checkpoint(here.folder, step)
    with running(one := Checkpoints(here, home=NEWEST, keep=3)):
        assert one.settle(20)
    assert published(here.home) == ["g1-s3"]


@pytest.mark.parametrize("seed", range(3))
def test_a_link_that_breaks_over_and_over_brings_it_whole_in_the_end(tmp_path: Path, seed: int) -> None:
    link = BadLink("h1", seed, 5_000, SIZE // 4)
    here = source(tmp_path, link.connect)
    make_checkpoint(here.folder, 7, size=SIZE)
    seen: set[str] = set()
    with running(one := Checkpoints(here)):

        def home_has_it() -> bool:
            seen.update(p.name for p in (Path(here.home) / "checkpoints").glob("*"))
            return bool(seen)

        until(home_has_it, "the checkpoint", 60)
        assert one.breaks >= 3
    assert seen == {"g1-s7"}
    assert verify(f"{here.home}/checkpoints/g1-s7") == []
    assert tree(f"{here.home}/checkpoints") == {
        path: digest for path, digest in tree(f"{here.folder}/checkpoints").items() if not path.startswith(".")
    }


def test_a_cut_costs_no_byte_that_is_here_already(tmp_path: Path) -> None:
    sessions: list[Session] = [CuttingSession("h1", SIZE), LocalSession("h1")]
    here = source(tmp_path, lambda: sessions.pop(0))
    make_checkpoint(here.folder, 7, size=2 * SIZE)
    came: list[int] = []
    with running(one := Checkpoints(here, progress=lambda _name, count, _here, _total: came.append(count))):
        assert one.settle(30)
    total = sum(path.stat().st_size for path in (Path(here.home) / "checkpoints/g1-s7").iterdir())
    assert one.breaks == 1
    assert sum(came) == total


def test_what_is_in_transfer_is_not_lost_to_pruning_even_across_a_cut(tmp_path: Path) -> None:
    here = source(tmp_path, lambda: connect())
    name = make_checkpoint(here.folder, 1, size=2 * SIZE)
    expected = tree(f"{here.folder}/checkpoints/{name}")
    connections = 0

    def connect() -> Session:
        nonlocal connections
        connections += 1
        if connections == 1:
            return CuttingSession("h1", SIZE)
        if connections == 2:  # the agent goes on, and prunes what home has half of
            make_checkpoint(here.folder, 2)
            prune(here.folder, name)
        return LocalSession("h1")

    finished: list[str] = []

    def progress(name: str, _count: int, there: int, total: int) -> None:
        if there == total:
            finished.append(name)

    with running(one := Checkpoints(here, keep=3, progress=progress)):
        assert one.settle(30)
    assert finished == ["g1-s1", "g1-s2"]  # begun, so finished; then the newest
    assert tree(f"{here.home}/checkpoints/{name}") == expected
    assert not list((Path(here.folder) / "checkpoints").glob(".held-*"))


def test_one_that_is_gone_for_good_gives_way_to_the_next(tmp_path: Path) -> None:
    sessions: list[Session] = [CuttingSession("h1", SIZE)]
    name = "g1-s1"
    here = source(tmp_path, lambda: sessions.pop(0))
    make_checkpoint(here.folder, 1, size=2 * SIZE)
    with running(one := Checkpoints(here)):
        until(lambda: one.breaks > 0, "the cut")
    shutil.rmtree(Path(here.folder) / "checkpoints")
    make_checkpoint(here.folder, 2)
    sessions.append(LocalSession("h1"))
    assert (Path(here.home) / ".gather/coming" / name).is_dir()
    with running(two := Checkpoints(here)):
        assert two.settle(20)
    assert published(here.home) == ["g1-s2"]
    assert not (Path(here.home) / ".gather/coming" / name).exists()


def test_one_that_is_not_what_its_manifest_says_is_never_published(tmp_path: Path) -> None:
    told: list[str] = []
    here = source(tmp_path)
    make_checkpoint(here.folder, 1)
    make_checkpoint(here.folder, 2)
    file = Path(here.folder) / "checkpoints/g1-s2" / ARRAYS
    data = bytearray(file.read_bytes())
    data[-300] ^= 1
    file.write_bytes(data)
    with running(one := Checkpoints(here, tell=told.append)):
        assert one.settle(20)
    assert published(here.home) == ["g1-s1"]
    assert len(told) == 1
    assert "g1-s2" in told[0]
    assert "SHA-256" in told[0]


def test_a_half_that_was_spoiled_at_home_is_brought_again(tmp_path: Path) -> None:
    here = source(tmp_path)
    name = make_checkpoint(here.folder, 1, size=SIZE)
    half = Path(here.home) / ".gather/coming" / name
    half.mkdir(parents=True)
    data = (Path(here.folder) / "checkpoints" / name / ARRAYS).read_bytes()
    # The end of what is here is right, what comes before it is not.
    (half / ARRAYS).write_bytes(bytes(10_000) + data[10_000:SIZE])
    with running(one := Checkpoints(here)):
        assert one.settle(20)
    assert verify(f"{here.home}/checkpoints/{name}") == []


def test_a_link_in_a_checkpoint_is_not_followed(tmp_path: Path) -> None:
    here = source(tmp_path)
    make_checkpoint(here.folder, 1)
    make_checkpoint(here.folder, 2)
    arrays = Path(here.folder) / "checkpoints/g1-s2" / ARRAYS
    arrays.unlink()
    arrays.symlink_to("/etc/passwd")
    with running(one := Checkpoints(here)):
        assert one.settle(20)
    assert published(here.home) == ["g1-s1"]
    assert "root:" not in "".join(p.read_text("latin-1") for p in Path(here.home).rglob("*") if p.is_file())


def test_one_that_has_no_room_at_home_waits_and_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    room = 1000
    monkeypatch.setattr(Disk, "free_bytes", lambda _: room)
    here = source(tmp_path)
    make_checkpoint(here.folder, 1)
    with running(one := Checkpoints(here, tell=told.append)):
        until(lambda: bool(told), "the word")
        room = 1 << 40
        assert one.settle(30)
    assert len(told) == 1
    assert "no room" in told[0]
    assert published(here.home) == ["g1-s1"]


def test_a_host_that_is_away_is_no_end(tmp_path: Path) -> None:
    tries = 0

    def connect() -> Session:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise NotFitError("h1 is away")
        return LocalSession("h1")

    here = source(tmp_path, connect)
    make_checkpoint(here.folder, 1)
    with running(one := Checkpoints(here)):
        assert one.settle(20)
    assert published(here.home) == ["g1-s1"]
