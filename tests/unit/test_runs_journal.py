"""Journals and the reading of files that grow: nothing torn, nothing unbounded, nothing twice."""

from __future__ import annotations

import errno
import json
import os
import random
import tracemalloc
from pathlib import Path

import pytest

from launcher.errors import RunError
from launcher.runs import journal
from launcher.runs.journal import Journal, RecordBuffer, read
from launcher.runs.tail import LineTail, ProgressTail, RecordTail, last_lines
from worker.contract import records


def test_records_are_numbered_from_one_and_go_on_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = Journal(path)
    assert [first.append("a")["seq"], first.append("b")["seq"]] == [1, 2]
    first.close()
    second = Journal(path)
    assert second.append("c")["seq"] == 3
    second.close()
    assert [(r["seq"], r["type"]) for r in read(path)] == [(1, "a"), (2, "b"), (3, "c")]


def test_a_torn_last_line_costs_that_line_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = Journal(path)
    writer.append("a")
    writer.close()
    with open(path, "ab") as file:
        file.write(b'{"t":1,"type":"torn","se')
    again = Journal(path)
    again.append("b")
    again.close()
    assert [(r["seq"], r["type"]) for r in read(path)] == [(1, "a"), (2, "b")]


def test_what_append_returns_is_what_a_reader_sees(tmp_path: Path) -> None:
    writer = Journal(tmp_path / "events.jsonl")
    record = writer.append("step", loss=float("nan"), host="a\nb\u2028\udcff", ranks=({"rank": 0},))
    writer.close()
    assert read(tmp_path / "events.jsonl") == [record]
    assert record["loss"] is None


def test_a_full_disk_is_an_error_with_a_next_step_and_the_journal_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Journal(tmp_path / "events.jsonl")
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) > 10:
            return write(fd, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", lambda fd, data: half(fd, bytes(data[:20])))
    with pytest.raises(RunError, match="no space left") as error:
        writer.append("lost")
    assert "free space" in error.value.hint
    monkeypatch.undo()
    assert writer.append("kept")["seq"] == 1
    writer.close()
    assert [r["type"] for r in read(tmp_path / "events.jsonl")] == ["kept"]


def test_a_hostile_journal_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with open(path, "wb") as file:
        file.write(b"[" * 100_000 + b"\n")
        for _ in range(48):
            file.write(b'{"type":"' + b"x" * (1 << 20))  # 48 MiB without an end of line
        file.write(b"\n" + b'{"type": "good"}\n' + b"\xff\xfe{}\n" + b'{"type": 3}\n')
    tracemalloc.start()
    found = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [r["type"] for r in found] == ["good"]
    assert peak < 16 << 20


def test_a_journal_is_read_to_its_first_64_mib_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type":"a"}\n' * 100_000)
    monkeypatch.setattr(journal, "MAX_JOURNAL", 1 << 18)
    assert len(read(path)) == (1 << 18) // 13


def test_records_are_the_same_in_whatever_pieces_they_come() -> None:
    data = b"".join(records.dumps({"type": "step", "step": i, "text": "é" * i}) for i in range(50)) + b'{"type":'
    whole = RecordBuffer().feed(data)
    for seed in range(20):
        chance = random.Random(seed)
        buffer, found, rest = RecordBuffer(), [], data
        while rest:
            n = chance.randint(1, 60)
            found += buffer.feed(rest[:n])
            rest = rest[n:]
        assert found == whole
    assert len(whole) == 50


def test_a_tail_gives_each_record_once_and_begins_anew_when_the_file_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = RecordTail(path)
    assert not tail.read()
    path.write_bytes(b'{"type":"a"}\n{"type":"b"')
    assert tail.read()
    assert [r["type"] for r in tail.records] == ["a"]
    with open(path, "ab") as file:
        file.write(b"}\n")
    assert tail.read()
    assert not tail.read()
    assert [r["type"] for r in tail.records] == ["a", "b"]
    path.write_bytes(b'{"type":"c"}\n')
    assert tail.read()
    assert [r["type"] for r in tail.records] == ["c"]


def test_a_progress_file_is_known_by_its_head_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "rank0.progress.jsonl"
    with open(path, "wb") as file:
        file.write(records.line(records.PHASE, name="import", seconds=2.0))
        for step in range(1, 40_001):
            file.write(json.dumps({"type": "step", "step": step, "loss": 0.1}).encode() + b"\n")
    tail = ProgressTail(path)
    assert tail.read()
    assert tail.progress.phases == (("import", 2.0),)
    assert tail.progress.step is not None
    assert tail.progress.step["step"] == 40_000
    assert not tail.read()


def test_lines_are_cut_and_an_endless_line_holds_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "rank0.log"
    tail = LineTail(path, max_line=100)
    with open(path, "wb") as file:
        for _ in range(64):
            file.write(b"x" * (1 << 16))
    lines = []
    for _ in range(64):
        lines += tail.read()
    assert lines == []
    with open(path, "ab") as file:
        file.write(b"\nnext\n")
    while found := tail.read():
        lines += found
    assert lines == [b"x" * 100, b"next"]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"a\r\nb\n"], [b"a", b"b"]),
        ([b"a\r", b"\nb\n"], [b"a", b"b"]),
        ([b"\r 10%\r 20%\r 30%\n", b"done\n"], [b" 30%", b"done"]),
        ([b"\r 10%\r 20%", b"\r 30%"], [b" 10%", b" 20%", b" 30%"]),
        ([b"half", b" a line\n"], [b"half a line"]),
        ([b"\n\n"], [b"", b""]),
    ],
)
def test_a_line_that_is_written_over_is_given_in_its_newest_state(
    tmp_path: Path, pieces: list[bytes], expected: list[bytes]
) -> None:
    path = tmp_path / "rank0.log"
    tail, lines = LineTail(path), []
    for piece in pieces:
        with open(path, "ab") as file:
            file.write(piece)
        lines += tail.read()
    assert lines + tail.rest() == expected


def test_the_last_lines_are_found_without_reading_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "rank0.log"
    path.write_bytes(b"".join(b"line %d\n" % i for i in range(200_000)) + b"unfinished")
    assert last_lines(path, 3) == [b"line 199998", b"line 199999", b"unfinished"]
    assert last_lines(tmp_path / "none.log", 3) == []
