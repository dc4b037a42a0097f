"""The checker of chaos runs finds what is wrong: for each invariant, histories that were tampered with."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker import INVARIANTS, check
from tests.chaos.checker.survey import left_alive
from tests.chaos.plan import Kind, draw
from tests.chaos.recorded import Recorded

Record = dict[str, Any]
Tamper = Callable[[Recorded], None]


def of(records: list[Record], type_: str, **fields: Any) -> Record:
    return next(r for r in records if r["type"] == type_ and fields.items() <= r.items())


def sets(host: str, type_: str, about: Record, **fields: Any) -> Tamper:
    """Other fields in a record of a journal (of the run: host "")."""

    def tamper(recorded: Recorded) -> None:
        recorded.change(recorded.journal(host), lambda records: of(records, type_, **about).update(fields))

    return tamper


def drops(host: str, type_: str, **about: Any) -> Tamper:
    def tamper(recorded: Recorded) -> None:
        recorded.change(recorded.journal(host), lambda records: records.remove(of(records, type_, **about)))

    return tamper


def adds(host: str, after: str, about: Record, **record: Any) -> Tamper:
    def tamper(recorded: Recorded) -> None:
        def put(records: list[Record]) -> None:
            found = of(records, after, **about)
            records.insert(records.index(found) + 1, {"seq": 0, "t": found["t"], **record})

        recorded.change(recorded.journal(host), put)

    return tamper


def writes(path: Callable[[Recorded], Path], change: Callable[[bytes], bytes]) -> Tamper:
    def tamper(recorded: Recorded) -> None:
        place = path(recorded)
        place.write_bytes(change(place.read_bytes()))

    return tamper


def both(*tampers: Tamper) -> Tamper:
    def tamper(recorded: Recorded) -> None:
        for one in tampers:
            one(recorded)

    return tamper


def evidence(**more: Any) -> Tamper:
    return lambda recorded: recorded.more.update(more)


def ended_before(state: str, code: int) -> Tamper:
    end: Record = {"type": "run_ended", "state": state, "exit_code": code}
    return both(adds("", "restart", {}, **end), evidence(codes=(code, 0)))


def a_twin(recorded: Recorded) -> None:
    (recorded.witness / "twins-rank1-g2").write_text("g2 met g1 pid 77")


def goes_on_from(name: str) -> Tamper:
    return sets("", "generation_started", {"generation": 2}, resumes=name)


def other_bits(recorded: Recorded) -> None:
    for folder in (recorded.home / "hosts" / "a", *recorded.rooms.values()):
        recorded.save(folder, 2, 20, bits=b"what nobody computed")


def an_epoch_less(recorded: Recorded) -> None:
    for folder in (recorded.home / "hosts" / "a", *recorded.rooms.values()):
        recorded.save(folder, 2, 20, epochs=3)


def not_home(recorded: Recorded) -> None:
    recorded.checkpoint("a", "g2-s20", at_home=True).rename(recorded.home / "elsewhere")


def a_copy_of_its_own(recorded: Recorded) -> None:
    recorded.save(recorded.rooms["b"], 2, 20, bits=b"of b alone")


def without_a_line(data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(lines[:3] + lines[4:])


def turned(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def of_step_8(data: bytes) -> bytes:
    return data.replace(b'"step": 7', b'"step": 8')


LOG = "g2/rank1.log"


def manifest(recorded: Recorded) -> Path:
    return recorded.checkpoint("b", "g1-s7") / "manifest.json"


def arrays_at_home(recorded: Recorded) -> Path:
    return recorded.checkpoint("a", "g2-s20", at_home=True) / "arrays.npz"


def model_at_home(recorded: Recorded) -> Path:
    return recorded.home / "hosts/b/output/model.keras"


TAMPERED: list[tuple[str, str, Tamper]] = [
    ("one incarnation of each rank at a time", "two of them held its lock", a_twin),
    ("one incarnation of each rank at a time", "started before it had ended", drops("b", "rank_ended", generation=1)),
    (
        "one incarnation of each rank at a time",
        "on another host before it had ended",
        both(
            adds("b", "rank_ended", {"generation": 1}, type="rank_ended", generation=1, rank=0),
            adds("b", "rank_ended", {"generation": 1}, type="rank_started", generation=1, rank=0),
            sets("a", "rank_ended", {"generation": 1}, t=20.5),
        ),
    ),
    ("one incarnation of each rank at a time", "nobody knows of its end", drops("a", "rank_ended", generation=2)),
    ("no start without a term", "nobody commanded", drops("a", "commanded_by", term=1)),
    ("no start without a term", "an earlier coordinator's", drops("a", "commanded_by", term=2)),
    ("no start without a term", "a term came twice", sets("", "coordinator_started", {"term": 2}, term=1)),
    ("no start without a term", "nobody began the generation", drops("", "generation_started", generation=2)),
    (
        "no start without a term",
        "a rank on another's host",
        sets("", "generation_started", {"generation": 2}, ranks=[{"rank": 0, "host": "b"}, {"rank": 1, "host": "a"}]),
    ),
    ("journals are whole", "a line is gone", writes(lambda r: r.journal("a"), without_a_line)),
    ("journals are whole", "half a line", writes(lambda r: r.journal(), lambda d: d[:-20])),
    ("no step counted twice", "from a step that it never did", goes_on_from("g1-s9")),
    ("no step counted twice", "from its own future", goes_on_from("g2-s7")),
    ("no step counted twice", "anew, though there were checkpoints", goes_on_from("")),
    (
        "no step counted twice",
        "an epoch that two lives tell of",
        adds("a", "rank_epoch", {"epoch": 2}, type="rank_epoch", generation=2, rank=0, epoch=1, step=10),
    ),
    ("no finished step is lost while a worker lives", "two steps fewer than were told", goes_on_from("g1-s5")),
    ("checkpoints at home equal the hosts'", "a bit was turned at home", writes(arrays_at_home, turned)),
    ("checkpoints at home equal the hosts'", "the newest is not home", not_home),
    ("checkpoints at home equal the hosts'", "its copy is another one", a_copy_of_its_own),
    ("checkpoints at home equal the hosts'", "of another step", writes(manifest, of_step_8)),
    ("logs are whole", "its end is not home", writes(lambda r: r.home / "hosts/b" / LOG, lambda d: d[:-3])),
    ("logs are whole", "a line that was printed is nowhere", both(
        writes(lambda r: r.home / "hosts/b" / LOG, lambda d: d.replace(b"#2.1.5#\n", b"")),
        writes(lambda r: r.rooms["b"] / LOG, lambda d: d.replace(b"#2.1.5#\n", b"")),
    )),
    ("logs are whole", "a log is not home", lambda r: (r.home / "hosts/b" / LOG).unlink()),
    ("output at home equals the host's", "other bytes", writes(model_at_home, lambda d: d + b"!")),
    ("weights equal an untouched run's", "other bits at the end", other_bits),
    ("weights equal an untouched run's", "an epoch is missing", an_epoch_less),
    ("weights equal an untouched run's", "it ended too early", lambda r: r.more.update(epochs=9)),
    ("the run ended as it should", "it hung", evidence(stuck="nothing new for 100 s")),
    ("the run ended as it should", "it failed", sets("", "run_ended", {}, state="failed", exit_code=1)),
    ("the run ended as it should", "its command says otherwise", evidence(codes=(1,))),
    ("the run ended as it should", "its command never ended", evidence(codes=(None,))),
    ("the run ended as it should", "no end is written down", drops("", "run_ended")),
    (
        "the run ended as it should",
        "it may fail, and does so without a cause",
        both(ended_before("failed", 1), evidence(interruptions=("failed",))),
    ),
    ("the run ended as it should", "stopped, and never asked to", ended_before("stopped", 130)),
    ("nothing is alive afterwards", "a process", evidence(left=("process 77",))),
]  # fmt: skip


def test_a_history_in_which_all_holds_is_found_so(tmp_path: Path) -> None:
    assert check(Recorded(tmp_path).evidence()) == []


@pytest.mark.parametrize(("invariant", "tamper"), [pytest.param(i, t, id=f"{i}: {w}") for i, w, t in TAMPERED])
def test_a_history_that_was_tampered_with_is_rejected(tmp_path: Path, invariant: str, tamper: Tamper) -> None:
    recorded = Recorded(tmp_path)
    tamper(recorded)
    found = check(recorded.evidence())
    assert [problem for problem in found if problem.startswith(invariant)], found


def test_every_invariant_has_a_history_that_breaks_it() -> None:
    assert {invariant for invariant, _, _ in TAMPERED} == set(INVARIANTS)


def test_a_history_that_was_parked_or_stopped_where_that_might_be_and_resumed_is_no_problem(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    ended_before("stopped", 130)(recorded)
    evidence(codes=(75, 130, 0), interruptions=("stopped", "parked"))(recorded)
    assert check(recorded.evidence()) == []


def test_a_rank_that_was_killed_beside_another_fault_may_cost_steps(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.save(recorded.rooms["a"], 1, 5)
    recorded.strikes.append({"kind": "FILL_HOST", "t": 19.0, "undone": 22.0})
    goes_on_from("g1-s5")(recorded)
    assert check(recorded.evidence()) == []


def test_a_process_a_socket_and_a_lock_of_the_run_are_seen(tmp_path: Path) -> None:
    tag, run = uuid.uuid4().hex, tmp_path / "chaos-1-1-20260101-000000"
    run.mkdir()
    assert left_alive(run, {}, tag=tag, keepers={}, ours=()) == []
    program = (
        "import fcntl, hashlib, os, socket, sys, time\n"
        "name = hashlib.sha256(os.fsencode(os.path.realpath(sys.argv[1]))).hexdigest()[:24]\n"
        "ear = socket.socket(socket.AF_UNIX)\n"
        "ear.bind(f'\\0launcher-0-{name}')\n"
        "file = open(sys.argv[1] + '/lock', 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", program, str(run)]
    with subprocess.Popen(argv, env={**os.environ, "TAG": tag}, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            found = left_alive(run, {}, tag=tag, keepers={}, ours=(), deadline_s=0)
        finally:
            process.kill()
    assert [line.split()[0] for line in found] == ["process", "socket", "lock"]
    assert left_alive(run, {}, tag=tag, keepers={}, ours=()) == []


def test_a_seed_says_everything_and_all_kinds_are_drawn() -> None:
    drawn = [draw(seed, number, "net") for seed in (1, 2) for number in range(1, 41)]
    assert drawn == [draw(seed, number, "net") for seed in (1, 2) for number in range(1, 41)]
    struck = {fault.kind for history in drawn for fault in history.faults}
    assert struck == set(Kind)
    assert {history.ground for history in drawn} == {"net", "local"}
    assert {history.workers for history in drawn} == {2, 4}
    assert {draw(1, number, "local").ground for number in range(1, 9)} == {"local"}
