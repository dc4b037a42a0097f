"""`fetch`: afterwards, all of it, as often as one likes; and a checkpoint that goes the other way."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from launcher.cli.fetch import fetch_hosts
from launcher.errors import LauncherError, NotFitError, RunError
from launcher.gather.again import Source
from launcher.gather.complete import Completed, Progress, complete
from launcher.gather.mirror import Mirror
from launcher.gather.send import bring_checkpoint
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from tests.gather_lab import BadLink, CuttingSession, make_checkpoint, running, source, tree, workdir, write
from worker.contract.checkpoints import ARRAYS, verify


def a_run(here: Source) -> dict[str, str]:
    """A host's folder as a run leaves it; what of it belongs home."""
    there = Path(here.folder)
    for name in ("events.jsonl", "agent.log", "g1/rank0.log", "g1/rank0.progress.jsonl", "g2/rank1.log"):
        write(there / name, f"{name}\n".encode() * 5000)
    make_checkpoint(there, 10)
    make_checkpoint(there, 20, generation=2, size=2 << 20)
    write(there / "output/model.keras", random.Random(1).randbytes(1_000_000))
    for number in range(50):
        write(there / f"output/logs/{number}.txt", b"%d" % number)
    write(there / "g1/rank0/output/events.out.tfevents.7", b"t" * 5000)
    wanted = tree(there)
    for name in ("code/x", "sources/y", "g1/rank0/tmp/z", "g1/rank0/checkpoints/g1-s30/arrays.npz"):
        write(there / name, b"stays")
    return wanted


def whole(session: Session, here: Source) -> Completed:
    return complete(session, here.folder, here.home, workdir=here.workdir)


def test_everything_comes_home_and_a_second_time_nothing_is_missing(tmp_path: Path) -> None:
    here = source(tmp_path)
    wanted = a_run(here)
    seen: list[Progress] = []
    done = complete(LocalSession("h1"), here.folder, here.home, workdir=here.workdir, progress=seen.append)
    assert tree(here.home) == wanted
    assert done.problems == []
    assert done.checkpoints == ["g1-s10", "g2-s20"]
    assert (len(done.logs), len(done.output)) == (5, 52)
    assert done.bytes >= 3_000_000
    assert seen
    again = whole(CuttingSession("h1", 400_000), here)  # so little that nothing large can have come
    assert (again.bytes, again.checkpoints, again.logs) == (0, done.checkpoints, done.logs)


@pytest.mark.parametrize("seed", range(2))
def test_called_again_after_every_cut_it_comes_to_its_end(tmp_path: Path, seed: int) -> None:
    here = source(tmp_path)
    wanted = a_run(here)
    link = BadLink("h1", seed, 100_000, 1_500_000)
    for _ in range(60):
        try:
            whole(link.connect(), here)
        except NotFitError:
            continue
        break
    assert tree(here.home) == wanted
    assert link.connections > 1


def test_what_was_spoiled_at_home_is_found_and_brought_again(tmp_path: Path) -> None:
    here = source(tmp_path)
    wanted = a_run(here)
    whole(LocalSession("h1"), here)
    for name in ("events.jsonl", "g1/rank0/output/events.out.tfevents.7"):
        with open(Path(here.home) / name, "r+b") as file:
            file.write(b"spoiled")
    whole(LocalSession("h1"), here)
    at_home = tree(here.home)
    assert at_home.pop("events.jsonl.1")  # what was there is not thrown away
    assert at_home == wanted


def test_a_living_coordinator_is_not_meddled_with(tmp_path: Path) -> None:
    here = source(tmp_path)
    a_run(here)
    with running(Mirror(here)), pytest.raises(RunError, match="already"):
        whole(LocalSession("h1"), here)


def test_a_host_that_does_not_have_the_run_says_so(tmp_path: Path) -> None:
    here = source(tmp_path)
    Path(here.folder).rmdir()
    with pytest.raises(NotFitError, match="no folder"):
        whole(LocalSession("h1"), here)


def test_every_host_is_fetched_whatever_becomes_of_the_others(tmp_path: Path) -> None:
    good, flaky = source(tmp_path, name="h1"), source(tmp_path, BadLink("h2", 3, 900_000, 2_000_000).connect, "h2")
    wanted = {one.host: a_run(one) for one in (good, flaky)}

    def dead() -> Session:
        raise NotFitError("h3 does not answer", hint="is it on?")

    lost = source(tmp_path, dead, "h3")
    out = io.StringIO()
    found = fetch_hosts([good, flaky, lost], out)
    assert tree(good.home) == wanted["h1"]
    assert tree(flaky.home) == wanted["h2"]
    assert isinstance(found["h3"], LauncherError)
    assert isinstance(found["h1"], Completed)
    assert "h1: 5 logs, 2 checkpoints, 52 output files are here" in out.getvalue()


def bring(session: Session, tmp_path: Path, name: str = "g1-s5", folder: str = "there/h9") -> str:
    return bring_checkpoint(
        session, tmp_path / "home" / "checkpoints" / name, str(tmp_path / folder), workdir=workdir()
    )


def test_a_checkpoint_is_brought_to_a_host_that_never_had_the_run(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "home", 5, size=3 << 20)
    path = bring(LocalSession("h9"), tmp_path)
    assert path == str(tmp_path / "there/h9/checkpoints/g1-s5")
    assert tree(path) == tree(tmp_path / "home/checkpoints/g1-s5")
    assert [p.name for p in Path(path).parent.iterdir()] == ["g1-s5"]
    for one in (Path(path), *Path(path).iterdir()):
        assert one.stat().st_mode & 0o077 == 0


def test_one_that_is_there_is_not_sent(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "home", 5, size=3 << 20)
    path = bring(LocalSession("h9"), tmp_path)
    before = Path(path).stat().st_ino
    assert bring(CuttingSession("h9", 300_000), tmp_path) == path
    assert Path(path).stat().st_ino == before


@pytest.mark.parametrize("how", ["torn", "another"])
def test_one_that_is_there_and_is_not_that_one_gives_way(tmp_path: Path, how: str) -> None:
    make_checkpoint(tmp_path / "home", 5)
    make_checkpoint(tmp_path / "there/h9", 5, seed=0 if how == "torn" else 1)
    if how == "torn":
        (tmp_path / "there/h9/checkpoints/g1-s5" / ARRAYS).write_bytes(b"half")
    path = bring(LocalSession("h9"), tmp_path)
    assert tree(path) == tree(tmp_path / "home/checkpoints/g1-s5")
    assert [p.name for p in Path(path).parent.iterdir()] == ["g1-s5"]


@pytest.mark.parametrize("seed", range(2))
def test_after_every_cut_it_goes_on_where_it_was(tmp_path: Path, seed: int) -> None:
    size = 6 << 20
    make_checkpoint(tmp_path / "home", 5, size=size)
    link = BadLink("h9", seed, size // 4, size // 2)
    published = tmp_path / "there/h9/checkpoints/g1-s5"
    for _ in range(30):
        try:
            bring(link.connect(), tmp_path)
        except NotFitError:
            assert not published.exists() or verify(str(published)) == []
            continue
        break
    assert verify(str(published)) == []
    assert 1 < link.connections < 12  # had it begun anew each time, it would never have come to its end


def test_one_that_is_not_whole_here_is_not_sent(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "home", 5)
    (tmp_path / "home/checkpoints/g1-s5" / ARRAYS).write_bytes(b"half")
    with pytest.raises(RunError, match="not whole"):
        bring(LocalSession("h9"), tmp_path)
    assert not (tmp_path / "there").exists()
