"""Two hosts have copies of the run's checkpoints: one of each comes home, whatever becomes of a host."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cli.fetch import fetch_hosts
from launcher.errors import NotFitError
from launcher.gather.again import Source
from launcher.gather.copies import Copies
from launcher.gather.gathering import Gathering, Ways
from launcher.gather.which import ALL, NEWEST
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from tests.gather_lab import CuttingSession, make_checkpoint, source, until
from worker.contract.checkpoints import ARRAYS, MANIFEST, verify

SIZE = 1 << 20


class Hosts:
    """Two hosts with copies, and what of them is at home."""

    def __init__(self, tmp_path: Path) -> None:
        self.sources: dict[str, Source] = {name: source(tmp_path, None, name) for name in ("h1", "h2")}
        self.told: list[str] = []

    def save(self, step: int, *, seeds: tuple[int, int] = (0, 0)) -> str:
        """Both publish a checkpoint; with unlike seeds, unlike ones."""
        names = [
            make_checkpoint(one.folder, step, size=SIZE, seed=seed)
            for one, seed in zip(self.sources.values(), seeds, strict=True)
        ]
        return names[0]

    def home(self) -> dict[str, list[str]]:
        """Which checkpoints of each host are at home; every one of them is whole."""
        while True:
            found = {
                name: sorted(Path(one.home, "checkpoints").glob("*"), key=lambda path: path.name)
                for name, one in self.sources.items()
            }
            problems = {path: verify(str(path)) for paths in found.values() for path in paths}
            if all(path.exists() for path in problems):  # else one was pruned while we looked
                break
        assert [problem for told in problems.values() for problem in told] == []
        return {name: [path.name for path in paths] for name, paths in found.items()}

    def copies(self) -> Copies:
        return Copies({name: one.home for name, one in self.sources.items()})

    @contextlib.contextmanager
    def gathering(self, home: str = NEWEST, keep: int | None = None) -> Iterator[Gathering]:
        ways = {name: Ways(one, one) for name, one in self.sources.items()}
        made = Gathering(ways, home=home, keep=keep, copies=self.copies(), tell=self.told.append)
        try:
            made.start()
            for name in self.sources:
                made.start_bulk(name)
            yield made
        finally:
            made.stop(10.0)

    def replace(self, name: str, connect: object) -> None:
        one = self.sources[name]
        self.sources[name] = Source(one.host, one.folder, one.home, connect, one.workdir)  # type: ignore[arg-type]


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def settled_but_for_h1(gathering: Gathering) -> list[str]:
    """What is missing once all of the other host is here."""
    missing: list[str] = []

    def settled() -> bool:
        missing[:] = gathering.settle(0.5)
        return not [line for line in missing if " of h2" in line]

    until(settled, "what h2 has")
    return missing


def away() -> Session:
    raise NotFitError("h1 does not answer")


def test_one_copy_of_each_comes_home(hosts: Hosts) -> None:
    for step in (1, 2, 3):
        hosts.save(step)
    with hosts.gathering(ALL) as gathering:
        until(lambda: len(hosts.home()["h1"]) == 3, "all three")
        hosts.save(4)
        until(lambda: len(hosts.home()["h1"]) == 4, "the fourth")
        assert gathering.settle(30) == []
    assert hosts.home() == {"h1": ["g1-s1", "g1-s2", "g1-s3", "g1-s4"], "h2": []}
    assert hosts.told == []


def test_the_other_host_serves_for_one_that_is_away(hosts: Hosts) -> None:
    hosts.replace("h1", away)
    hosts.save(1)
    with hosts.gathering() as gathering:
        missing = [line.partition(":")[0] for line in settled_but_for_h1(gathering)]
        assert missing == ["logs of h1", "checkpoints of h1", "output of h1"]
        assert hosts.home() == {"h1": [], "h2": ["g1-s1"]}


def test_one_that_goes_away_in_the_middle_leaves_it_to_the_other(hosts: Hosts) -> None:
    sessions: list[Session] = [LocalSession("h1"), CuttingSession("h1", SIZE // 2)]
    one = hosts.sources["h1"]
    bulk = Source(one.host, one.folder, one.home, lambda: sessions.pop() if sessions else away(), one.workdir)
    hosts.save(1)
    ways = {"h1": Ways(one, bulk), "h2": Ways(hosts.sources["h2"], hosts.sources["h2"])}
    gathering = Gathering(ways, copies=hosts.copies())
    try:
        gathering.start()
        gathering.start_bulk("h1")
        until(lambda: bool(list(Path(one.home, ".gather/coming").glob("g1-s1/*"))), "a half of it")
        del sessions[:]
        gathering.start_bulk("h2")
        settled_but_for_h1(gathering)
        assert hosts.home() == {"h1": [], "h2": ["g1-s1"]}
    finally:
        gathering.stop(10.0)


def test_a_half_that_another_host_has_overtaken_is_kept_nowhere(hosts: Hosts) -> None:
    one, other = hosts.sources["h1"], hosts.sources["h2"]
    make_checkpoint(one.folder, 1, size=SIZE)
    ways: list[Session] = [CuttingSession("h1", SIZE // 2)]
    back = threading.Event()

    def connect() -> Session:
        return ways.pop() if ways else LocalSession("h1") if back.is_set() else away()

    gathering = Gathering(
        {"h1": Ways(one, Source(one.host, one.folder, one.home, connect, one.workdir)), "h2": Ways(other, other)},
        copies=hosts.copies(),
    )
    halves, held = Path(one.home, ".gather/coming"), Path(one.folder, "checkpoints")
    try:
        gathering.start()
        gathering.start_bulk("h1")
        until(lambda: bool(list(halves.glob("g1-s1/*"))) and not ways, "a half of it")
        make_checkpoint(other.folder, 2, size=SIZE)
        gathering.start_bulk("h2")
        settled_but_for_h1(gathering)
        assert hosts.home() == {"h1": [], "h2": ["g1-s2"]}
        assert list(held.glob(".held-*")), "for when the connection is back"
        back.set()
        assert gathering.settle(30) == []
        assert list(halves.glob("g*")) == []
        until(lambda: not list(held.glob(".held-*")), "the host to let go of it")
    finally:
        gathering.stop(10.0)


def test_a_copy_that_is_not_whole_is_had_of_the_other(hosts: Hosts) -> None:
    name = hosts.save(1)
    damaged = Path(hosts.sources["h1"].folder, "checkpoints", name, ARRAYS)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with hosts.gathering():
        until(lambda: hosts.home() == {"h1": [], "h2": [name]}, "the other's")
    assert [text for text in hosts.told if "is not kept" in text] != []


def test_copies_that_differ_both_come_home(hosts: Hosts) -> None:
    hosts.save(1)
    unlike = hosts.save(2, seeds=(0, 1))
    with hosts.gathering(ALL) as gathering:
        until(lambda: hosts.home() == {"h1": ["g1-s1", unlike], "h2": [unlike]}, "both copies of that one")
        assert gathering.settle(30) == []
    assert [text for text in hosts.told if unlike in text] == [
        f"the copy of {unlike} on h2 does not hold the same numbers as the one that is at home"
    ]


def test_so_many_stay_at_home_whichever_hosts_brought_them(hosts: Hosts) -> None:
    make_checkpoint(hosts.sources["h2"].folder, 1, size=SIZE)
    with hosts.gathering(ALL, keep=2) as gathering:
        assert gathering.settle(30) == []
        assert hosts.home() == {"h1": [], "h2": ["g1-s1"]}
        hosts.save(2)
        hosts.save(3)
        until(lambda: hosts.home() == {"h1": ["g1-s2", "g1-s3"], "h2": []}, "the newest two")


def test_a_later_coordinator_brings_no_second_copy(hosts: Hosts) -> None:
    hosts.save(1)
    with hosts.gathering():
        until(lambda: hosts.home()["h1"] == ["g1-s1"], "the checkpoint")
    hosts.replace("h1", away)
    with hosts.gathering() as gathering:
        settled_but_for_h1(gathering)
    assert hosts.home() == {"h1": ["g1-s1"], "h2": []}


def test_fetch_brings_one_copy_of_each_and_all_of_it(hosts: Hosts) -> None:
    for step in (1, 2, 3):
        hosts.save(step)
    make_checkpoint(hosts.sources["h2"].folder, 4, size=SIZE)  # the other one died before
    out = io.StringIO()
    found = fetch_hosts(list(hosts.sources.values()), out, copies=hosts.copies())
    assert not [done for done in found.values() if isinstance(done, Exception)]
    home = hosts.home()
    assert sorted(home["h1"] + home["h2"]) == ["g1-s1", "g1-s2", "g1-s3", "g1-s4"]


def test_with_all_a_host_learns_what_it_may_prune(hosts: Hosts) -> None:
    hosts.save(1)
    hosts.save(2, seeds=(0, 1))
    with hosts.gathering(ALL):
        for one in hosts.sources.values():
            marks = Path(one.folder, "checkpoints")
            until(lambda marks=marks: len(list(marks.glob(".home-*"))) == 2, f"the marks in {marks}")  # type: ignore[misc]


def test_a_manifest_that_is_none_is_no_copy_and_harms_nothing(hosts: Hosts) -> None:
    name = hosts.save(1)
    Path(hosts.sources["h2"].folder, "checkpoints", name, MANIFEST).write_text(json.dumps({"files": [1]}))
    with hosts.gathering(ALL) as gathering:
        until(lambda: hosts.home()["h1"] == [name], "the whole one")
        assert gathering.settle(30) == []
