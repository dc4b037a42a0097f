"""The parts of the agent's shell one by one: who is killed, how files are read, what is moved where."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.talk import Talk
from worker.agent import processes
from worker.agent.journal import Follower, Journal
from worker.agent.publish import move_output
from worker.agent.spawn import last_words
from worker.agent.tail import PIECE, Tail
from worker.contract import layout, records, wire


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_process_that_got_the_pid_of_the_one_that_was_meant_is_not_killed(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, pidfd: bool
) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    found = processes.look_up(sleeper.pid)
    assert found is not None
    processes.kill(found._replace(start_time=found.start_time - 1))
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.1)
    processes.kill(found)
    assert sleeper.wait(5) == -signal.SIGKILL
    processes.kill(found)  # and one that is gone is nobody


def test_a_name_with_parentheses_and_spaces_hides_no_process(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "600"])
    try:
        found = processes.look_up(process.pid)
        assert found is not None
        assert (found.pid, found.parent) == (process.pid, os.getpid())
        assert found in processes.descendants(os.getpid())
    finally:
        process.kill()
        process.wait()


def test_a_tail_takes_whole_lines_only_and_of_steps_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    tail = Tail(str(path))
    assert tail.take() == []  # it is not there yet
    path.write_bytes(b'{"type":"step","step":1}\n{"type":"step","step":2}\n{"type":"epoch","epoch":1}\n{"type":"st')
    assert [(r["type"], r.get("step")) for r in tail.take()] == [("step", 2), ("epoch", None)]
    with path.open("ab") as file:
        file.write(b'ep","step":3}\n')
    assert [r["step"] for r in tail.take()] == [3]
    assert tail.drained
    tail.close()


@pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_tail_gets_past_a_line_of_any_length(tmp_path: Path, length: int) -> None:
    path = tmp_path / "progress"
    path.write_bytes(b"x" * length + b"\n" + records.line("epoch", epoch=1))
    tail = Tail(str(path))
    found = [record for _ in range(8) for record in tail.take()]
    assert [r["type"] for r in found] == ["epoch"]
    tail.close()


def test_a_follower_sees_each_event_once_be_it_on_disk_or_waiting(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "events.jsonl"))
    follower = Follower(journal, since=2, seq=5)
    for seq in range(1, 6):
        journal.append({"seq": seq, "type": "x"})
    assert [e["seq"] for e in follower.take()] == [3, 4, 5]
    journal.problem = OSError("full")
    journal.append({"seq": 6, "type": "x"})
    assert [e["seq"] for e in follower.take()] == [6]
    journal.sync()
    journal.append({"seq": 7, "type": "x"})
    assert [e["seq"] for e in follower.take()] == [7]
    assert follower.take() == []


def test_a_journal_tells_what_has_been_and_what_has_no_end(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "events.jsonl"))
    story = [
        {"type": records.COMMANDED_BY, "term": 4},
        {"type": records.RANK_STARTED, "generation": 1, "rank": 0},
        {"type": records.RANK_ENDED, "generation": 1, "rank": 0},
        {"type": records.GENERATION_ENDED, "generation": 1},
        {"type": records.RANK_STARTED, "generation": 2, "rank": 0},
        {"type": records.RANK_STARTED, "generation": 2, "rank": 3},
        {"type": records.RANK_ENDED, "generation": 2, "rank": 0},
    ]
    for seq, record in enumerate(story, 1):
        journal.append({"seq": seq, **record})
    past = Journal(str(tmp_path / "events.jsonl")).past
    assert (past.term, past.generation, past.seq, past.unended) == (4, 2, 7, {2: [3]})


@pytest.mark.parametrize("replace", [True, False])
def test_output_is_merged_and_replaces_only_if_it_may(tmp_path: Path, replace: bool) -> None:
    source, target = tmp_path / "new", tmp_path / "output"
    for place, text in ((source, "new"), (target, "old")):
        (place / "logs").mkdir(parents=True)
        (place / "model.keras").write_text(text)
        (place / "logs" / text).write_text(text)
    (source / "link").symlink_to("/etc")
    move_output(str(source), str(target), replace)
    assert (target / "model.keras").read_text() == ("new" if replace else "old")
    assert sorted(path.name for path in (target / "logs").iterdir()) == ["new", "old"]
    assert (target / "link").is_symlink()


def test_no_output_makes_no_folder(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    move_output(str(tmp_path / "new"), str(tmp_path / "output"), True)
    move_output(str(tmp_path / "never"), str(tmp_path / "output"), True)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("words", [b"", b"{", b"[]", b'{"errno": 2}', b"\xff"])
def test_last_words_that_make_no_sense_are_a_failure_all_the_same(words: bytes) -> None:
    assert "ended before its program could be started" in last_words(words).message


@pytest.mark.parametrize(
    ("name", "parsed"),
    [("g1-s0", (1, 0)), ("g12-s340", (12, 340)), ("g1-s²", None), ("g٣-s1", None), ("g01-s1", None), ("g1-s1\n", None),
     ("g1-s" + "9" * 5000, None), ("../g1-s1", None), ("g-1-s1", None), ("g1-s1.new", None)],
)  # fmt: skip
def test_only_a_checkpoints_own_name_is_one(name: str, parsed: tuple[int, int] | None) -> None:
    assert layout.parse_checkpoint_name(name) == parsed


def test_talk_remembers_over_connections_what_a_coordinator_must_not_forget() -> None:
    talk = Talk("/folder", "here", "a-run", 60.0)
    event = {"type": wire.EVENT, "event": {"seq": 1, "type": "x"}}
    hello = {"type": wire.HELLO, "nonce": "t@1"}
    stream = b"banner\r\n" + wire.MAGIC + wire.encode(hello) + wire.encode(event)
    assert [m["type"] for m in talk.feed(stream + b"\0\0")] == [wire.HELLO, wire.EVENT]
    talk.reach(start=False)  # half a frame was lost with the connection
    assert talk.feed(wire.MAGIC + wire.encode(event)) == []
    (command,) = wire.Decoder().feed(talk.command(3))
    (renewal,) = wire.Decoder().feed(talk.renew())
    assert (command["term"], command["since"], renewal["nonce"]) == (3, 1, "t@1")
