"""A run is followed from its files: in order, through its generations, to its end, and an interrupt loses nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from launcher.runs.model import EpochView, FailureView, GenerationView, RankView, RunView
from launcher.view.follow import Follower, follower, screen_for
from launcher.view.lines import LogLine
from launcher.view.live import LiveScreen
from launcher.view.notes import notes
from launcher.view.pace import Pace
from launcher.view.plain import PlainScreen
from tests.fake_run import FakeRun, everybody, nobody, only_agents
from tests.unit.test_view_text import STARTUP
from worker.contract import records
from worker.contract.states import RankState, RunState


class Recorder:
    """A screen that remembers what it was shown."""

    most_behind: int | None = None

    def __init__(self) -> None:
        self.told: list[str] = []
        self.fails_in = 0  # calls from now; 0 is never

    def note(self, text: str) -> None:
        self._may_fail()
        self.told.append(f"* {text}")

    def lines(self, lines: Sequence[LogLine]) -> None:
        self._may_fail()
        self.told += [f"r{line.rank} g{line.generation} {line.text}" for line in lines]

    def show(self, view: RunView) -> None:  # noqa: ARG002
        self._may_fail()

    def close(self) -> None: ...

    def _may_fail(self) -> None:
        if self.fails_in:
            self.fails_in -= 1
            if not self.fails_in:
                raise KeyboardInterrupt


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path).created()


class Clock:
    """Each look is five seconds after the last, so that every look asks who lives."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 5
        return self.now


def test_a_run_is_followed_to_its_end_with_lines_notes_and_epochs(run: FakeRun) -> None:
    screen = Recorder()
    follow = Follower(run.folder, screen, probe=everybody, clock=Clock())
    assert follow.step()
    run.started()
    run.log(0, STARTUP.read_bytes())
    run.log(1, b"hello\nunfinished")
    assert follow.step()
    run.first_step()
    assert follow.step()
    run.log(1, b" line")
    run.trained()
    view = follow.run(wait=lambda _: None)
    assert view.state == RunState.TRAINED
    assert screen.told[:4] == [
        "* preparing",
        "r0 g1 value 3.1871156692504883",
        "r1 g1 hello",
        "* generation 1: 2 workers on here",
    ]
    assert "r0 g1 (19 lines of TensorFlow's start-up folded; --verbose shows them)" in screen.told
    assert "r1 g1 unfinished line" in screen.told
    assert sum(told.startswith("* epoch ") for told in screen.told) == 5
    assert [told for told in screen.told if told.startswith("* ")][-1] == "* trained"


def test_a_follower_goes_on_through_generations_and_shows_each_log_once(run: FakeRun) -> None:
    run.started().first_step()
    run.log(0, b"one\n")
    screen = Recorder()
    follow = Follower(run.folder, screen, probe=everybody, clock=Clock())
    follow.step()
    run.log(0, b"last of one")
    run.ended(0, "failed", exit_code=1)
    run.started(resumes="g1-s94").first_step()
    run.log(0, b"two\n")
    for _ in range(3):
        assert follow.step()
    run.trained()
    follow.run(wait=lambda _: None)
    lines = [told for told in screen.told if told.startswith("r0")]
    assert lines == ["r0 g1 one", "r0 g1 last of one", "r0 g2 two"]
    assert "* generation 2: 2 workers on here, from g1-s94" in screen.told


def test_lines_that_come_home_after_the_end_of_their_rank_are_shown(run: FakeRun) -> None:
    run.started().first_step()
    screen = Recorder()
    follow = Follower(run.folder, screen, probe=everybody, clock=Clock())
    run.ended(0, "finished", exit_code=0)
    assert follow.step()
    assert follow.step()
    run.log(0, b"its last words, a li")  # journals come first; the link may be slow
    assert follow.step()
    run.log(0, b"ttle late\n")
    assert follow.step()
    run.started().first_step()
    assert follow.step()
    run.generation = 1
    run.log(0, b"very late\n")
    run.generation = 2
    run.trained()
    follow.run(wait=lambda _: None)
    lines = [told for told in screen.told if told.startswith("r0")]
    assert lines == ["r0 g1 its last words, a little late", "r0 g1 very late"]


def test_an_interrupt_anywhere_in_a_step_loses_and_repeats_nothing(run: FakeRun) -> None:
    run.started().first_step().epoch(1)
    run.log(0, b"a\nb\n")
    calm = Recorder()
    Follower(run.folder, calm, probe=everybody, clock=Clock()).step()
    places = 0
    while True:
        disturbed = Recorder()
        disturbed.fails_in = places + 1
        follow = Follower(run.folder, disturbed, probe=everybody, clock=Clock())
        try:
            follow.step()
        except KeyboardInterrupt:
            places += 1
            follow.step()
            assert disturbed.told == calm.told
        else:
            break
    assert places == 5  # the lines, three notes, and how the run stands


def test_a_view_ends_when_the_coordinator_is_gone_unless_it_is_to_see_the_run_out(run: FakeRun) -> None:
    run.started().first_step()
    screen = Recorder()
    assert not Follower(run.folder, screen, probe=only_agents, clock=Clock()).step()
    assert any("the coordinator is gone" in told for told in screen.told)
    assert Follower(run.folder, screen, probe=only_agents, clock=Clock(), past_coordinator=True).step()


def test_a_run_that_its_agents_ended_alone_is_followed_to_that_end(run: FakeRun) -> None:
    run.started().first_step()
    who = [only_agents]
    follow = Follower(run.folder, Recorder(), probe=lambda *given: who[0](*given), clock=Clock(), past_coordinator=True)
    assert follow.step()
    run.finished()
    who[0] = nobody
    assert follow.run(wait=lambda _: None).state == RunState.TRAINED


def test_attaching_begins_with_the_last_lines_and_tells_no_old_news(run: FakeRun) -> None:
    run.started().first_step().epoch(1)
    run.log(0, b"".join(b"line %d\n" % i for i in range(1000)))
    screen = Recorder()
    follow = Follower(run.folder, screen, probe=everybody, clock=Clock(), last=2)
    follow.step()
    assert screen.told == ["r0 g1 line 998", "r0 g1 line 999", "* training"]
    run.epoch(2)
    follow.step()
    assert screen.told[-1].startswith("* epoch 2/5")


def test_a_worker_that_prints_faster_than_a_screen_shows_is_passed_over_with_a_word(run: FakeRun) -> None:
    run.started().first_step()
    screen = Recorder()
    screen.most_behind = 10_000
    follow = Follower(run.folder, screen, probe=everybody, clock=Clock())
    follow.step()
    run.log(0, b"".join(b"line %d\n" % i for i in range(100_000)))
    follow.step()
    assert "passed over" in screen.told[-51]
    assert screen.told[-1] == "r0 g1 line 99999"


def test_one_ranks_lines_can_be_followed_alone(run: FakeRun) -> None:
    run.started().first_step()
    run.log(0, b"zero\n")
    run.log(1, b"one\n")
    screen = Recorder()
    Follower(run.folder, screen, probe=everybody, clock=Clock(), rank=1).step()
    assert [told for told in screen.told if told.startswith("r")] == ["r1 g1 one"]


def test_plain_lines_have_prefixes_and_no_escape_of_a_worker_gets_through(run: FakeRun) -> None:
    run.started().first_step()
    run.log(1, b"\x1b[2Jhello\x07\n")
    out = io.StringIO()
    Follower(run.folder, PlainScreen(out), probe=everybody, clock=Clock()).step()
    assert "[r1 here] hello␇\n" in out.getvalue()
    assert "[launcher] training\n" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_pipe_gets_the_plain_screen(run: FakeRun) -> None:
    assert isinstance(screen_for(io.StringIO(), plain=False), PlainScreen)
    follow = follower(run.folder, io.StringIO())
    follow.close()
    follow.close()


def test_victims_are_not_told_as_failures() -> None:
    ranks = [RankView(0, "a", RankState.TRAINING), RankView(1, "a", RankState.TRAINING)]
    before = RunView("x", "/x", RunState.TRAINING, generation=1, ranks=tuple(ranks))
    after = RunView(
        "x",
        "/x",
        RunState.TRAINING,
        generation=1,
        ranks=(RankView(0, "a", RankState.ENDED, signal="SIGTERM"), RankView(1, "a", RankState.FAILED, exit_code=3)),
    )
    assert list(notes(before, after)) == ["rank 1 on a failed with exit code 3"]
    assert list(notes(after, after)) == []


def test_a_life_that_failed_at_once_is_told_after_it_began_and_before_the_next_one() -> None:
    generations = tuple(GenerationView(n, 0.0, ranks=((0, "a"),)) for n in (1, 2))
    failures = (FailureView(1, "rank 0 on a was killed by SIGKILL", pause_s=1.0),)
    view = RunView("x", "/x", RunState.STARTING, generation=2, generations=generations, failures=failures)
    assert list(notes(None, view))[:3] == [
        "generation 1: 1 worker on a",
        "rank 0 on a was killed by SIGKILL; the next generation begins in 1.0 s",
        "generation 2: 1 worker on a",
    ]


def live(view: RunView, height: int = 24) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=height, color_system=None)
    screen = LiveScreen(console)
    screen.lines([LogLine(1, 1, "here", "[bold]not markup[/bold] :smile:")])
    screen.show(view)
    screen.note("epoch 1 done")
    screen.close()
    screen.close()
    return out.getvalue()


def test_the_live_screen_has_a_row_per_rank_and_a_bar_and_takes_no_markup_from_workers(run: FakeRun) -> None:
    run.started().first_step()
    run.step(0, 235, loss=0.1234)
    run.step(1, 235, loss=0.1234)
    follow = Follower(run.folder, Recorder(), probe=everybody, clock=Clock())
    follow.step()
    text = live(follow.view)
    assert "fashion-cnn-20260102-030405  training" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("r0 ", "r1 "))]
    assert ["r0", "here", "training", "3/5", "235", "3,500", "0.1234"] in rows
    assert "50 %" in text
    assert "235/470 steps" in text
    assert "[r1 here] [bold]not markup[/bold] :smile:" in text


def test_the_live_screen_of_many_ranks_leaves_room_for_lines() -> None:
    ranks = tuple(RankView(i, f"h{i}", RankState.TRAINING, step=10 + i, steps=100) for i in range(200))
    text = live(RunView("x", "/x", RunState.TRAINING, ranks=ranks), height=20)
    assert "and 190 more: 190 training" in text
    assert "10/100 steps" in text


def test_the_live_screen_draws_nothing_when_nothing_has_changed() -> None:
    now = [0.0]
    out = io.StringIO()
    screen = LiveScreen(Console(file=out, force_terminal=True, width=80, height=20), clock=lambda: now[0])
    view = RunView("x", "/x", RunState.TRAINING, epochs=(EpochView(1, 1),))
    screen.show(view)
    drawn = len(out.getvalue())
    for now[0] in (0.2, 0.5, 0.9):
        screen.show(view)
    assert len(out.getvalue()) == drawn
    now[0] = 1.1
    screen.show(view)
    assert len(out.getvalue()) > drawn
    screen.close()


def test_the_time_left_is_from_the_measured_pace_and_a_new_generation_starts_it_over() -> None:
    pace = Pace()
    assert pace.seconds_left(0.0, 100) is None
    for second in range(11):
        pace.saw(float(second), second * 10)
    assert pace.seconds_left(10.0, 200) == pytest.approx(10.0)
    assert pace.seconds_left(20.0, 200) == pytest.approx(20.0)  # it has stood still since
    pace.saw(21.0, 50)
    assert pace.seconds_left(21.0, 200) is None


def test_the_pace_is_that_of_the_last_minute() -> None:
    pace = Pace()
    for second in range(1000):
        pace.saw(float(second), second)
    for second in range(1000, 1100):
        pace.saw(float(second), 1000 + (second - 1000) * 10)
    assert pace.seconds_left(1099.0, 1990 + 100) == pytest.approx(10.0, rel=0.05)


def test_a_program_without_steps_has_no_bar(run: FakeRun) -> None:
    run.started()
    run.of_rank(0, records.RANK_FIRST_STEP)
    follow = Follower(run.folder, Recorder(), probe=everybody, clock=Clock())
    follow.step()
    assert "steps" not in live(follow.view)
