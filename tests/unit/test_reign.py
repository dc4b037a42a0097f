"""A coordinator that slept sees in its own journal that another one has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.runs.journal import Journal
from launcher.supervise.reign import Reign, SupersededError
from worker.contract import records


def test_what_this_coordinator_writes_and_what_was_there_before_end_no_reign(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.append(records.COORDINATOR_STARTED, term=3)
    reign = Reign(tmp_path / "events.jsonl", 2)
    journal.append(records.REMARK, text="one more", term=9)
    journal.append(records.COORDINATOR_STARTED, term=2)
    reign.check()
    journal.close()


def test_a_later_term_ends_it_even_if_its_line_came_in_two_pieces(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    reign = Reign(path, 2)
    line = records.dumps({"t": 1.0, "type": records.COORDINATOR_STARTED, "seq": 1, "term": 3})
    with path.open("ab") as file:
        file.write(line[:20])
        file.flush()
        reign.check()
        file.write(line[20:])
    with pytest.raises(SupersededError, match="term 3"):
        reign.check()
