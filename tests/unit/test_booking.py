"""Every second of a run is booked once: told histories, a recorded one, and any others."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.runs.booking import Story, booking
from launcher.runs.folder import RunFolder
from launcher.runs.ledger import Booking, Life, Use
from launcher.runs.model import Alive, RunView
from launcher.runs.read import RunReader, read_run
from launcher.runs.tail import Progress
from launcher.runs.told import told_by_coordinator
from launcher.view import values
from launcher.view.ending import print_ending
from launcher.view.report import print_report
from launcher.view.tables import print_status
from tests.fake_run import nobody
from worker.contract import records
from worker.contract.records import Record

T0 = 1_000_000.0
TWO_KILLS = Path(__file__).parent / "data" / "two-kills"


class Past:
    """A run's records, each with the second at which it was written; hosts have clocks of their own."""

    def __init__(self, hosts: tuple[str, ...] = ("a",), ahead: dict[str, float] | None = None) -> None:
        self.hosts, self.ahead = hosts, ahead or {}
        self.run: list[Record] = []
        self.of_hosts: dict[str, list[Record]] = {host: [] for host in hosts}
        self.progress: dict[int, dict[int, Progress]] = {}
        self.tell(0.5, records.RUN_CREATED, launched_at=T0, epochs=5)
        self.coordinator(0.6, term=1)

    def tell(self, at: float, kind: str, **fields: Any) -> None:
        self.run.append({"t": T0 + at, "type": kind, **fields})

    def coordinator(self, at: float, term: int) -> None:
        self.tell(at, records.COORDINATOR_STARTED, term=term)

    def agent(self, host: str, at: float, kind: str, **fields: Any) -> None:
        self.of_hosts[host].append({"t": T0 + at + self.ahead.get(host, 0.0), "type": kind, **fields})

    def starts(self, generation: int, at: float, *, first_step: float | None, resumes: str = "") -> None:
        ranks = [{"rank": rank, "host": host} for rank, host in enumerate(self.hosts)]
        self.tell(at, records.GENERATION_STARTED, generation=generation, resumes=resumes, ranks=ranks, epochs=5)
        for rank, host in enumerate(self.hosts):
            self.agent(host, at + 0.1, records.RANK_STARTED, generation=generation, rank=rank, state="starting")
            if first_step is not None:
                step = int(resumes.partition("-s")[2] or 0) + 1
                self.agent(host, first_step, records.RANK_FIRST_STEP, generation=generation, rank=rank, step=step)

    def steps(
        self, generation: int, at: float, step: int, *, since: float, first: int = 1, saving_s: float = 0.0
    ) -> None:
        """The ends of the chief's progress file."""
        ahead = T0 + self.ahead.get(self.hosts[0], 0.0)
        begun = {"t": ahead + since, "type": records.STEP, "step": first}
        newest = {"t": ahead + at, "type": records.STEP, "step": step, "saving_s": saving_s}
        self.progress.setdefault(generation, {})[0] = Progress(first=begun, step=newest)

    def rank_ends(self, generation: int, rank: int, at: float, state: str, **fields: Any) -> None:
        host = self.hosts[rank]
        self.agent(host, at, records.RANK_ENDED, generation=generation, rank=rank, state=state, **fields)

    def over(self, generation: int, at: float, *hosts: str) -> None:
        for host in hosts or self.hosts:
            self.agent(host, at, records.GENERATION_ENDED, generation=generation)

    def restart(self, generation: int, at: float, pause_s: float = 0.0, message: str = "it died") -> None:
        self.tell(at, records.RESTART, generation=generation, pause_s=pause_s, message=message, progressed=True)

    def ended(self, at: float, state: str = "trained") -> None:
        self.tell(at, records.RUN_ENDED, state=state, exit_code=0, message="")

    def book(self, *, until: float, lives: bool = False, finished: bool = True, with_steps: bool = True) -> Booking:
        told = told_by_coordinator(self.run)
        found = booking(
            Story(
                begins_at=told.started_at,
                ends_at=T0 + until,
                run_events=self.run,
                host_events=self.of_hosts,
                generations=tuple(told.generations[number] for number in sorted(told.generations)),
                progress=self.progress,
                with_steps=with_steps,
                lives=lives,
                finished=finished,
            )
        )
        assert found is not None
        holds(found)
        return found


def amounts(book: Booking) -> list[int]:
    return [*book.spent.values(), *(amount for life in book.lives for amount in life.spent.values())]


def holds(found: Booking) -> None:
    """What is true of any book."""
    assert sum(found.spent.values()) == found.total_ms
    assert sum(sum(life.spent.values()) for life in found.lives) <= found.total_ms
    assert all(amount >= 0 for amount in amounts(found))
    assert found.goodput is None or 0 <= found.goodput <= 1
    if found.total_ms:
        assert round(sum(found.shares().values()), 6) == 100.0
    for life in found.lives:
        if life.from_step is not None and life.reached is not None:
            assert 0 <= life.done_again <= max(0, life.reached - life.from_step)


def spent(of: Booking | Life) -> dict[str, float]:
    return {str(use): amount / 1000 for use, amount in of.spent.items() if amount}


def a_kill(past: Past, *, generation: int = 1) -> Past:
    """Killed at 50 s, after 40 s of training; rescued within a second."""
    past.starts(generation, 2.0, first_step=10.0)
    past.steps(generation, 49.8, 400, since=10.0)
    past.rank_ends(generation, 0, 50.0, "failed", signal="SIGKILL", step=400)
    past.over(generation, 51.0)
    return past


def test_a_killed_worker_costs_its_rescue_and_the_next_start() -> None:
    past = a_kill(Past())
    past.restart(1, 51.2)
    past.starts(2, 52.0, first_step=57.0, resumes="g1-s400")
    past.steps(2, 99.0, 800, since=57.0, first=401, saving_s=2.5)
    past.rank_ends(2, 0, 99.5, "finished")
    past.over(2, 99.6)
    past.ended(100.0)
    book = past.book(until=100.0)
    assert spent(book) == {
        "start": 15.0,
        "training": 79.5,
        "rescue": 1.2,
        "restart": 0.8,
        "checkpoint": 3.5,
    }
    assert book.goodput == pytest.approx(79.5 / 90.0)
    assert spent(book.lives[1]) == {"restart": 0.8, "start": 5.0, "training": 39.5, "checkpoint": 3.5}
    assert [(life.from_step, life.first_step, life.reached) for life in book.lives] == [(0, 1, 400), (400, 401, 800)]


def test_steps_that_were_done_again_are_lost_work_and_no_training() -> None:
    past = a_kill(Past())
    past.restart(1, 51.0)
    past.starts(2, 52.0, first_step=57.0, resumes="g1-s300")
    book = past.book(until=60.0, lives=True)
    assert spent(book.lives[0]) == {"start": 10.0, "training": 30.0, "lost work": 10.0, "rescue": 1.0}
    assert book.lives[0].done_again == 100
    assert spent(book.lives[1])["training"] == 3.0


def test_a_generation_that_nothing_goes_back_to_was_in_vain() -> None:
    past = a_kill(Past())
    past.restart(1, 51.0)
    past.starts(2, 52.0, first_step=57.0)
    assert spent(past.book(until=60.0, lives=True).lives[0])["lost work"] == 40.0


def test_of_a_program_no_step_is_known_and_none_lost() -> None:
    past = a_kill(Past())
    past.restart(1, 51.0)
    past.starts(2, 52.0, first_step=57.0)
    book = past.book(until=60.0, lives=True, with_steps=False)
    assert spent(book.lives[0])["training"] == 40.0
    assert book.lives[0].reached is None


def test_what_a_failed_run_has_not_saved_is_lost() -> None:
    past = a_kill(Past())
    past.agent("a", 30.0, records.CHECKPOINT, generation=1, rank=0, name="g1-s200", step=200)
    past.ended(52.0, "failed")
    assert spent(past.book(until=52.0, finished=False)) == {
        "start": 10.0,
        "training": 20.0,
        "lost work": 20.0,
        "rescue": 2.0,
    }


def test_a_host_that_fell_silent_is_detected_from_the_last_step_on() -> None:
    past = Past(("a", "b"))
    past.starts(1, 2.0, first_step=10.0)
    past.steps(1, 30.0, 200, since=10.0)
    past.rank_ends(1, 0, 42.5, "rescued", exit_code=81)
    past.over(1, 43.0, "a")
    past.tell(41.0, records.LINK_LOST, host="b", why="nothing was heard for 10 s")
    past.restart(1, 46.0)
    past.starts(2, 80.0, first_step=90.0, resumes="g1-s200")
    past.agent("b", 75.0, records.COMMANDED_BY, term=1)
    book = past.book(until=95.0, lives=True)
    assert spent(book.lives[0]) == {"start": 10.0, "training": 20.5, "detection": 12.0, "rescue": 3.5}
    assert spent(book.lives[1]) == {"waiting": 29.0, "restart": 5.0, "start": 10.0, "training": 5.0}


def test_a_pause_and_the_time_without_a_coordinator_are_waited_through() -> None:
    past = a_kill(Past())
    past.tell(45.0, records.REMARK, text="the last word")
    past.coordinator(60.0, term=2)
    past.restart(1, 61.0, pause_s=4.0)
    past.starts(2, 66.0, first_step=70.0, resumes="g1-s400")
    book = past.book(until=75.0, lives=True)
    assert spent(book.lives[1]) == {"waiting": 13.0, "restart": 2.0, "start": 4.0, "training": 5.0}


def test_a_coordinator_that_dies_while_training_goes_on_costs_nothing() -> None:
    past = Past()
    past.starts(1, 2.0, first_step=10.0)
    past.coordinator(40.0, term=2)
    assert spent(past.book(until=60.0, lives=True)) == {"start": 10.0, "training": 50.0}


def test_a_night_between_a_stop_and_resume_is_no_part_of_goodput() -> None:
    past = Past()
    past.starts(1, 2.0, first_step=10.0)
    past.steps(1, 30.0, 200, since=10.0)
    past.tell(30.0, records.STOP_REQUESTED, how="graceful", by="down")
    past.agent("a", 30.0, records.RANK_ASKED_TO_STOP, generation=1, rank=0, how="message")
    past.rank_ends(1, 0, 31.0, "stopped")
    past.over(1, 31.0)
    past.ended(32.0, "stopped")
    past.coordinator(30_000.0, term=2)
    past.starts(2, 30_001.0, first_step=30_005.0, resumes="g1-s200")
    book = past.book(until=30_010.0, lives=True)
    assert spent(book) == {"start": 15.0, "training": 25.0, "checkpoint": 2.0, "waiting": 29_968.0}
    assert book.goodput == pytest.approx(25.0 / 32.0)


@pytest.mark.parametrize("ahead", [-3600.0, -0.01, 0.0, 0.02, 3600.0])
def test_hosts_clocks_that_are_wrong_change_nothing_that_counts(ahead: float) -> None:
    past = a_kill(Past(ahead={"a": ahead}))
    past.restart(1, 51.1)
    past.starts(2, 52.0, first_step=57.0, resumes="g1-s400")
    book = past.book(until=90.0, lives=True)
    assert book.spent[Use.TRAINING] == pytest.approx(73_000, abs=150)
    assert book.spent[Use.RESCUE] == pytest.approx(1_100, abs=150)


def test_a_run_that_never_did_a_step_has_a_start_and_no_goodput() -> None:
    past = Past()
    past.starts(1, 2.0, first_step=None)
    book = past.book(until=20.0, lives=True)
    assert spent(book) == {"start": 20.0}
    assert book.goodput is None


def test_the_recorded_history_of_two_kills(tmp_path: Path) -> None:
    shutil.copytree(TWO_KILLS, tmp_path / "run")
    reader = RunReader(RunFolder(tmp_path / "run"), nobody)
    book = reader.booking(reader.poll(), now=0.0)
    assert book is not None
    holds(book)
    assert [life.generation for life in book.lives] == [1, 2, 3]
    assert [(life.from_step, life.reached, life.done_again) for life in book.lives] == [
        (0, 97, 0),
        (97, 188, 0),
        (188, 1128, 0),
    ]
    assert spent(book) == {"training": 25.361, "checkpoint": 0.368, "start": 33.258, "restart": 0.035, "rescue": 0.346}
    assert "SIGKILL" in book.lives[0].reason


def recorded(tmp_path: Path) -> RunView:
    shutil.copytree(TWO_KILLS, tmp_path / "fashion")
    return read_run(RunFolder(tmp_path / "fashion"), nobody, book=True)


def printed(show: Callable[[TextIO], None]) -> list[str]:
    out = io.StringIO()
    show(out)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_the_report_has_a_table_of_the_time_and_one_of_the_generations(tmp_path: Path) -> None:
    view = recorded(tmp_path)
    lines = printed(lambda out: print_report(view, [], out))
    assert "training 25.4 s 42.7 % steps that count, and validation" in lines
    assert (
        "in all 59.4 s 100.0 % goodput 55.7 %: training's share of what came after the first step, at 13.8 s" in lines
    )
    assert any(
        line.startswith("2 20") and "g1-s97 2 on here 10.2 s 91 12.3 s rank 0 on here was" in line for line in lines
    )
    assert "2 1.910 s – 10.2 s 0.019 s 0.171 s" in lines


def test_status_and_the_ending_say_it_in_a_line(tmp_path: Path) -> None:
    view = recorded(tmp_path)
    line = "59.4 s: start 56.0 %, training 42.7 %, checkpoint 0.6 %, rescue 0.6 %, restart 0.1 %; goodput 55.7 %"
    status = printed(lambda out: print_status(view, out))
    assert f"time {line}" in status
    assert any("SIGKILL" in row for row in status)
    ending = printed(lambda out: print_ending(view, out))
    assert f"time: {line}" in ending
    assert any(row.startswith("3 generations, 0 steps done again") for row in ending)


def test_json_has_every_heading_and_every_generation(tmp_path: Path) -> None:
    view = recorded(tmp_path)
    for told in (values.status(view)["booking"], values.report(view)["booking"]):
        assert list(told["seconds"]) == list(told["percent"]) == [str(use) for use in Use]
        assert round(sum(told["seconds"].values()), 6) == told["total_s"] == 59.368
        assert told["goodput"] == 0.5565
        assert [life["resumes"] for life in told["generations"]] == [None, "g1-s97", "g2-s188"]
        assert told["generations"][1]["seconds"]["rescue"] == 0.171
    assert values.status(replace(view, booking=None))["booking"] is None


# Any history.

TIMES = st.one_of(
    st.floats(-10, 300),
    st.sampled_from([0.0, 1e9, -1e9, 1e300, -1e300, float("inf"), float("nan")]),
)
KINDS_OF_RUN = st.sampled_from(
    [
        *(records.RUN_CREATED, records.COORDINATOR_STARTED, records.RUN_STATE, records.GENERATION_STARTED),
        *(records.RESTART, records.REPLANNED, records.STOP_REQUESTED, records.LINK_LOST, records.LINK_BACK),
        *(records.RUN_ENDED, records.GENERATION_STARTED, records.RESTART),
    ]
)
KINDS_OF_AGENT = st.sampled_from(
    [
        *(records.AGENT_STARTED, records.COMMANDED_BY, records.RANK_STARTED, records.RANK_FIRST_STEP),
        *(records.RANK_EPOCH, records.RANK_FAILURE, records.CHECKPOINT, records.RANK_ASKED_TO_STOP),
        *(records.RANK_ENDED, records.GENERATION_ENDED),
    ]
)
STATES = st.sampled_from(["starting", "training", "failed", "rescued", "ended", "finished", "stopped", "none"])
STEPS = st.integers(-5, 500)
SMALL = st.integers(1, 4)


@st.composite
def records_of(draw: st.DrawFn, kinds: st.SearchStrategy[str]) -> Record:
    generation = draw(SMALL)
    return {
        "t": T0 + draw(TIMES),
        "type": draw(kinds),
        "generation": generation,
        "rank": draw(st.integers(0, 2)),
        "step": draw(STEPS),
        "state": draw(STATES),
        "host": draw(st.sampled_from(["a", "b"])),
        "resumes": draw(st.sampled_from(["", f"g{generation - 1}-s{draw(st.integers(0, 500))}", "nonsense"])),
        "ranks": [{"rank": 0, "host": "a"}, {"rank": 1, "host": draw(st.sampled_from(["a", "b"]))}],
        "pause_s": draw(st.sampled_from([0.0, 1.0, 1e300, -5.0])),
        "launched_at": T0,
    }


@given(
    run=st.lists(records_of(KINDS_OF_RUN), max_size=25),
    of_hosts=st.fixed_dictionaries(
        {"a": st.lists(records_of(KINDS_OF_AGENT), max_size=25), "b": st.lists(records_of(KINDS_OF_AGENT), max_size=9)}
    ),
    signs=st.lists(st.tuples(SMALL, TIMES, TIMES, STEPS, STEPS, TIMES), max_size=4),
    until=TIMES,
    in_order=st.booleans(),
    lives=st.booleans(),
    finished=st.booleans(),
    with_steps=st.booleans(),
)
def test_any_history_adds_up(
    run: list[Record],
    of_hosts: dict[str, list[Record]],
    signs: list[tuple[int, float, float, int, int, float]],
    until: float,
    in_order: bool,
    lives: bool,
    finished: bool,
    with_steps: bool,
) -> None:
    past = Past(("a", "b"))
    past.run += sorted(run, key=lambda record: float(record["t"])) if in_order else run
    past.of_hosts = of_hosts
    for generation, since, at, first, step, saving_s in signs:
        past.steps(generation, at, step, since=since, first=first, saving_s=saving_s)
    if until == until:
        past.book(until=until, lives=lives, finished=finished, with_steps=with_steps)


@given(cut=st.integers(0, 4000), of_agent=st.integers(0, 12_000), alive=st.booleans())
def test_a_journal_cut_anywhere_adds_up(
    cut: int, of_agent: int, alive: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut") / "run"
    shutil.copytree(TWO_KILLS, folder)
    for path, size in ((folder / "events.jsonl", 600 + cut), (folder / "hosts/here/events.jsonl", of_agent)):
        path.write_bytes(path.read_bytes()[:size])
    probe = nobody if not alive else lambda *_: Alive(coordinator=4000, agents={"here": 4500})
    reader = RunReader(RunFolder(folder), probe)
    book = reader.booking(reader.poll(), now=1795536600.0)
    assert book is not None
    holds(book)
