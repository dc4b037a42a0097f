"""What is told of a run is the truth: while it lives, when it ended, and when those who would tell are gone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.runs.folder import RunFolder
from launcher.runs.model import Alive, RunView
from launcher.runs.read import RunReader, read_run
from launcher.runs.state import fold
from tests.fake_run import FakeRun, append, everybody, nobody, only_agents
from worker.contract import records
from worker.contract.states import RankState, RunState


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path).created()


def states(view: RunView) -> list[str]:
    return [rank.state.value for rank in view.ranks]


def test_a_run_in_training_shows_its_ranks_and_their_newest_step(run: FakeRun) -> None:
    run.started().first_step()
    run.step(0, 95, loss=0.25)
    view = read_run(run.folder, everybody)
    assert (view.state, view.coordinator_pid, view.generation) == (RunState.TRAINING, 4000, 1)
    first = view.ranks[0]
    assert (first.state, first.pid, first.epoch, first.step, first.steps) == (RankState.TRAINING, 5000, 2, 95, 470)
    assert (first.loss, first.images_per_second) == (0.25, 3500.0)
    assert dict(first.phases)["import"] == 2.0
    assert view.time_to_first_step_s is not None
    assert view.time_to_first_step_s > 0
    assert view.exit_code is None


def test_a_run_that_trained_shows_epochs_result_and_model_and_nobody_alive(run: FakeRun) -> None:
    run.started().first_step().trained()
    view = read_run(run.folder, nobody)
    assert (view.state, view.exit_code, view.coordinator_pid) == (RunState.TRAINED, 0, None)
    assert [epoch.epoch for epoch in view.epochs] == [1, 2, 3, 4, 5]
    assert (view.test_loss, view.test_accuracy) == (0.31, 0.89)
    assert view.model == str(run.folder.path / "hosts/here/output/model.keras")
    assert [rank.pid for rank in view.ranks] == [None, None]


def test_a_coordinator_that_is_gone_shows_no_pid_while_the_agents_train_on(run: FakeRun) -> None:
    run.started().first_step()
    view = read_run(run.folder, only_agents)
    assert (view.state, view.coordinator_pid, view.by_agents) == (RunState.TRAINING, None, True)
    assert "the coordinator is gone" in view.reason
    assert states(view) == ["training", "training"]


def test_without_a_coordinator_a_run_whose_ranks_all_finished_is_trained(run: FakeRun) -> None:
    run.started().first_step().epoch(1).finished()
    view = read_run(run.folder, nobody)
    assert (view.state, view.exit_code) == (RunState.TRAINED, 0)
    assert view.model == str(run.folder.path / "hosts/here/output/model.keras")
    assert view.ended_at == run.now


def test_without_a_coordinator_a_run_whose_lease_ended_is_parked(run: FakeRun) -> None:
    run.started().first_step()
    run.agent("here", records.LEASE_ENDED, term=1)
    for rank in range(2):
        run.of_rank(rank, records.RANK_ASKED_TO_STOP, how="message", reason="the lease has ended")
        run.ended(rank, "stopped", exit_code=82)
    run.agent("here", records.AGENT_LEFT, reason="lease")
    view = read_run(run.folder, nobody)
    assert (view.state, view.exit_code) == (RunState.PARKED, 75)


def test_a_lease_that_ended_in_an_earlier_generation_parks_no_later_one(run: FakeRun) -> None:
    run.started()
    run.agent("here", records.LEASE_ENDED, term=1)
    run.started()
    for rank in range(2):
        run.ended(rank, "stopped", exit_code=82)
    assert read_run(run.folder, nobody).state == RunState.STOPPED


def test_without_a_coordinator_the_first_failure_is_the_cause_and_victims_are_not(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, hosts=("a", "b"), workers=3).created().started().first_step()
    run.of_rank(0, records.RANK_FAILURE, reason="peer", message="a collective broke")
    run.ended(0, "failed", exit_code=1)
    run.of_rank(1, records.RANK_FAILURE, reason="data", message="no such file", hint="put it there")
    run.ended(1, "failed", signal="SIGKILL")
    run.ended(2, "rescued", exit_code=81)
    view = read_run(run.folder, nobody)
    assert (view.state, view.exit_code) == (RunState.FAILED, 1)
    assert view.cause is not None
    assert (view.cause.rank, view.cause.host, view.cause.how) == (1, "b", "SIGKILL")
    assert (view.cause.message, view.cause.hint) == ("no such file", "put it there")
    assert view.cause.log == run.host(1).log(1, 1)


def test_a_rank_that_found_its_data_unfit_makes_the_run_not_fit(run: FakeRun) -> None:
    run.started()
    run.ended(0, "failed", exit_code=84)
    run.ended(1, "ended", signal="SIGTERM")
    view = read_run(run.folder, nobody)
    assert (view.state, view.exit_code) == (RunState.NOT_FIT, 3)


def test_an_agent_that_was_killed_is_the_cause_and_its_ranks_are_not_alive(run: FakeRun) -> None:
    run.started().first_step()
    view = read_run(run.folder, nobody)
    assert view.state == RunState.FAILED
    assert "the agent is gone" in view.reason
    assert view.cause is not None
    assert (view.cause.rank, view.cause.host) == (None, "here")
    assert states(view) == ["ended", "ended"]
    assert [rank.pid for rank in view.ranks] == [None, None]


def test_a_worker_that_outlived_its_agent_is_shown_alive_by_pid_and_start_time(run: FakeRun) -> None:
    run.started(start_time=77).first_step()
    asked = []

    def process(host: str, pid: int, start_time: int) -> bool:
        asked.append((host, pid, start_time))
        return pid == 5001

    view = read_run(run.folder, lambda *_: Alive(agents={"here": None}, process=process))
    assert asked == [("here", 5000, 77), ("here", 5001, 77)]
    assert states(view) == ["ended", "training"]
    assert view.state == RunState.TRAINING
    assert "ps --kill" in view.reason


def test_the_agents_of_another_machine_are_not_called_gone(run: FakeRun) -> None:
    run.started().first_step()
    view = read_run(run.folder, lambda *_: Alive(coordinator=None, agents={}))
    assert view.state == RunState.TRAINING
    assert states(view) == ["training", "training"]


def test_a_coordinator_that_died_before_any_worker_started_is_a_failure(run: FakeRun) -> None:
    view = read_run(run.folder, nobody)
    assert (view.state, view.ranks) == (RunState.FAILED, ())
    assert "started no worker" in view.reason


def test_a_resumed_run_is_alive_again_and_the_earlier_end_is_forgotten(run: FakeRun) -> None:
    run.started().first_step()
    name = run.checkpoint(94)
    run.tell(records.CAUSE, rank=1, host="here", generation=1, how="SIGKILL", log="", lines=[])
    run.tell(records.RUN_ENDED, state="failed", exit_code=1, message="rank 1 died", model="")
    assert read_run(run.folder, nobody).state == RunState.FAILED
    run.coordinator(pid=4001, term=2)
    run.started(resumes=name)
    view = read_run(run.folder, everybody)
    assert (view.state, view.generation, view.term, view.cause) == (RunState.STARTING, 2, 2, None)
    assert view.ended_at is None


@pytest.mark.parametrize("with_steps", [True, False])
def test_a_later_generation_replaces_the_epochs_after_the_step_it_resumed_at(run: FakeRun, with_steps: bool) -> None:
    run.started()
    if with_steps:
        run.first_step()
    run.epoch(1)
    run.epoch(2, loss=0.7)
    name = run.checkpoint(2 * 94)
    run.epoch(3, loss=0.6)
    run.started(resumes=name)
    if with_steps:
        run.step(0, 2 * 94 + 5)
    assert [epoch.epoch for epoch in read_run(run.folder, everybody).epochs] == [1, 2]
    run.epoch(3, loss=0.5)
    view = read_run(run.folder, everybody)
    assert [(e.epoch, e.generation, e.loss) for e in view.epochs] == [(1, 1, 1.0), (2, 1, 0.7), (3, 2, 0.5)]


def test_a_generation_that_starts_afresh_replaces_every_epoch(run: FakeRun) -> None:
    run.started().first_step().epoch(1).epoch(2)
    run.started().first_step().epoch(1, loss=0.9)
    assert [(e.epoch, e.loss) for e in read_run(run.folder, everybody).epochs] == [(1, 0.9)]


def test_a_checkpoint_in_mid_epoch_keeps_only_the_epochs_before_it(run: FakeRun) -> None:
    run.started().first_step().epoch(1).epoch(2)
    name = run.checkpoint(94 + 40)
    run.started(resumes=name)
    run.step(0, 94 + 41)
    assert [epoch.epoch for epoch in read_run(run.folder, everybody).epochs] == [1]


def test_a_checkpoint_with_a_name_that_is_none_is_not_shown(run: FakeRun) -> None:
    run.started()
    for name in ("g1-s²", "g1-s٣", "../g1-s1", "", "g1-s1/.."):
        run.of_rank(0, records.CHECKPOINT, name=name, step=1)
    assert read_run(run.folder, everybody).checkpoints == ()


def test_pruned_checkpoints_are_not_shown(run: FakeRun) -> None:
    run.started().first_step()
    for step in (94, 188):
        run.checkpoint(step)
    run.agent("here", records.CHECKPOINT_PRUNED, name="g1-s94")
    view = read_run(run.folder, everybody)
    assert [(c.name, c.step) for c in view.checkpoints] == [("g1-s188", 188)]


def test_a_host_speaks_for_its_own_ranks_only(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, hosts=("a", "b")).created().started().first_step()
    run.agent("b", records.RANK_ENDED, generation=1, rank=0, state="failed", exit_code=1)
    run.agent("b", records.RANK_EPOCH, generation=1, rank=0, epoch=1, loss=9.0)
    run.agent("b", records.RANK_RESULT, generation=1, rank=0, test_loss=9.0, model="m")
    view = read_run(run.folder, everybody)
    assert states(view) == ["training", "training"]
    assert (view.epochs, view.test_loss, view.model) == ((), None, None)


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_a_host_whose_clock_is_wrong_changes_no_time_and_no_cause(tmp_path: Path, ahead: float) -> None:
    views = []
    for where, clocks in (("right", {}), ("wrong", {"b": ahead})):
        run = FakeRun(tmp_path / where, hosts=("a", "b"), clocks=clocks).created()
        run.started().first_step()
        first, then = (1, 0) if ahead > 0 else (0, 1)
        run.ended(first, "failed", exit_code=9)
        run.ended(then, "failed", exit_code=1)
        views.append(read_run(run.folder, nobody))
    right, wrong = views
    assert right.cause is not None
    assert wrong.cause is not None
    assert wrong.cause.rank == right.cause.rank == (1 if ahead > 0 else 0)
    assert wrong.time_to_first_step_s == right.time_to_first_step_s
    assert wrong.ended_at == right.ended_at


@pytest.mark.parametrize("model", ["/etc/passwd", "../../../x", "output/../../x", 3, None])
def test_a_model_path_that_leads_out_of_the_host_folder_is_refused(run: FakeRun, model: Any) -> None:
    run.started()
    run.of_rank(0, records.RANK_RESULT, test_loss=1.0, model=model)
    assert read_run(run.folder, nobody).model is None


def test_a_reader_takes_only_what_is_new_and_gives_the_same_view_when_nothing_is(run: FakeRun) -> None:
    run.started().first_step()
    now = [0.0]
    probes = []

    def probe(folder: RunFolder, run_events: Any, host_events: Any) -> Alive:
        probes.append(now[0])
        return everybody(folder, run_events, host_events)

    reader = RunReader(run.folder, probe, clock=lambda: now[0])
    first = reader.poll()
    assert reader.poll() is first
    run.step(1, 7)
    assert reader.poll().ranks[1].step == 7
    run.epoch(1)
    assert len(reader.poll().epochs) == 1
    assert probes == [0.0]
    now[0] = 1.5
    reader.poll()
    assert probes == [0.0, 1.5]


def test_a_reader_notices_the_death_of_coordinator_and_agents_without_a_word_in_any_file(run: FakeRun) -> None:
    run.started().first_step()
    now = [0.0]
    who = [everybody]
    reader = RunReader(run.folder, lambda *given: who[0](*given), clock=lambda: now[0])
    assert reader.poll().state == RunState.TRAINING
    who[0] = only_agents
    now[0] = 2.0
    assert reader.poll().by_agents
    who[0] = nobody
    now[0] = 4.0
    assert reader.poll().state == RunState.FAILED


KINDS = sorted(
    value for name, value in vars(records).items() if name.isupper() and isinstance(value, str) and name[0] != "_"
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("here") | st.just("g1-s²"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["rank", "host"]), inner, max_size=2),
    max_leaves=5,
)
NAMES = (
    "t seq rank generation state epoch name model ranks host hosts resumes exit_code signal reason step pid start_time "
    "launched_at term epochs loss"
)
FIELDS = st.dictionaries(
    st.sampled_from(NAMES.split(" ")),
    VALUES | st.sampled_from([0, 1, "trained", "failed", "finished", "g1-s94", [{"rank": 0, "host": "here"}]]),
    max_size=6,
)
RECORDS = st.lists(st.builds(lambda kind, fields: {**fields, "type": kind}, st.sampled_from(KINDS), FIELDS), max_size=8)


@given(run_events=RECORDS, host_events=RECORDS)
def test_no_record_whatever_it_holds_breaks_the_fold(run_events: list[Any], host_events: list[Any]) -> None:
    for alive in (Alive(), Alive(coordinator=0, agents={"here": 0}), Alive(agents={"here": None})):
        view = fold(RunFolder(Path("/runs/x")), run_events, {"here": host_events}, {}, alive)
        json.dumps([replace(epoch) is not None for epoch in view.epochs])
        assert isinstance(view.state, RunState)


def test_a_corrupt_host_journal_hides_nothing_of_the_coordinators(run: FakeRun) -> None:
    run.started().first_step()
    append(run.host(0).journal, b"\x00\xff[[[\n" + b"{" * 5000 + b"\n")
    run.epoch(1)
    assert [e.epoch for e in read_run(run.folder, everybody).epochs] == [1]
