"""Everything of a run's hosts at once, as a coordinator has it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from launcher.errors import NotFitError, RunError
from launcher.gather.gathering import Gathering, Ways
from launcher.hosts.session import Session
from tests.gather_lab import BadLink, append, make_checkpoint, source, tree, write


def test_all_hosts_come_home_and_one_that_is_away_hides_no_other(tmp_path: Path) -> None:
    away = threading.Event()

    def connect() -> Session:
        if not away.is_set():
            raise NotFitError("h3 does not answer")
        return BadLink("h3", 1, 1 << 20, 1 << 21).connect()

    sources = [
        source(tmp_path, BadLink("h1", 1, 30_000, 90_000, cuts=5).connect, "h1"),
        source(tmp_path, None, "h2"),
        source(tmp_path, connect, "h3"),
    ]
    for here in sources:
        write(Path(here.folder) / "events.jsonl", b"{}\n" * 1000)
        write(Path(here.folder) / "g1/rank0.log", b"a line\n" * 5000)
    make_checkpoint(sources[0].folder, 3, size=100_000)
    write(Path(sources[0].folder) / "output/model.keras", b"m" * 50_000)
    told: list[str] = []
    gathering = Gathering({one.host: Ways(one, one) for one in sources}, keep=2, tell=told.append)
    try:
        gathering.start()
        gathering.start_bulk("h1")
        gathering.start_bulk("h1")
        gathering.start_bulk("no host of ours")
        missing = gathering.settle(5.0)
        assert [text.partition(":")[0] for text in missing] == ["logs of h3"]
        assert "does not answer" in gathering.problems()["logs of h3"]
        for here in sources[:2]:
            assert tree(here.home) == tree(here.folder)
        away.set()
        append(Path(sources[2].folder) / "g1/rank0.log", b"the end\n")
        assert gathering.settle(30.0) == []
        assert gathering.problems() == {}
        assert tree(sources[2].home) == tree(sources[2].folder)
        with pytest.raises(RunError, match="already"):
            Gathering({one.host: Ways(one, one) for one in sources}).start()
    finally:
        gathering.stop(10.0)
    gathering.start_bulk("h2")  # nothing begins after the end
    gathering.stop()
    assert [thread.name for thread in threading.enumerate() if " of h" in thread.name] == []
