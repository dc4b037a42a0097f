"""Copies of a checkpoint on several hosts: who writes them, what is said when they differ, and which one is used."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from launcher.plan.build import plan
from launcher.plan.json_form import from_json, to_json
from launcher.runs.read import read_run
from launcher.spec.model import CheckpointSpec, HostSpec
from launcher.supervise.newest import newest_checkpoint
from launcher.view import values
from launcher.view.ending import print_ending
from launcher.view.notes import notes
from launcher.view.plan import render
from launcher.view.report import print_report
from launcher.view.tables import print_status
from tests.fake_run import FakeRun, nobody, only_agents
from tests.plan_values import facts, spec
from worker.contract import names, records
from worker.contract.states import RunState
from worker.train.checkpoint import Arrays, Checkpoint, write


def host(name: str, workers: int = 1) -> HostSpec:
    return HostSpec(name, local=True, workers=workers)


@pytest.mark.parametrize(
    ("workers", "copies", "savers"),
    [
        ([2], None, [0]),
        ([2, 2], None, [0, 2]),
        ([2, 2, 1], None, [0, 2]),
        ([2, 2, 1], 3, [0, 2, 4]),
        ([2, 2, 1], 1, [0]),
        ([1, 1], 7, [0, 1]),
    ],
)
def test_the_lowest_rank_of_a_second_host_saves_too_unless_the_spec_says_otherwise(
    workers: Sequence[int], copies: int | None, savers: list[int]
) -> None:
    hosts = [host(f"h{number}", count) for number, count in enumerate(workers)]
    made = plan(spec(*hosts, checkpoint=CheckpointSpec(copies=copies)), {h.name: facts(h.name) for h in hosts}, run="r")
    assert [rank.rank for rank in made.ranks if rank.saves] == savers
    told = [json.loads(rank.env[names.TRAIN])["checkpoint"]["saves"] for rank in made.ranks]
    assert [rank for rank, saves in enumerate(told) if saves] == savers
    assert from_json(json.loads(json.dumps(to_json(made)))) == made
    shown = "saves copies of the checkpoints" in render(made)
    assert shown == (len(savers) > 1)


def test_a_host_on_another_machine_goes_before_one_that_shares_the_chiefs() -> None:
    found = {"a": facts("a", machine="m"), "b": facts("b", machine="m"), "c": facts("c", machine="n")}
    made = plan(spec(host("a"), host("b"), host("c")), found, run="r")
    assert [rank.rank for rank in made.ranks if rank.saves] == [0, 2]


def test_hosts_that_nothing_is_known_of_count_as_machines_of_their_own_and_programs_save_for_themselves() -> None:
    assert [rank.saves for rank in plan(spec(host("a"), host("b")), {}, run="r").ranks] == [True, True]
    made = plan(spec(host("a"), host("b"), program=("x",)), {"a": facts("a"), "b": facts("b")}, run="r")
    assert [rank.saves for rank in made.ranks] == [False, False]


# What is told.


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path, hosts=("a", "b")).created().started().first_step()


def differ(run: FakeRun, step: int = 188) -> str:
    """Both ranks publish a checkpoint before, then two that are not the same, then one more of each."""
    for rank, arrays in ((0, "aa"), (1, "aa")):
        run.checkpoint(step - 94, rank=rank, arrays=arrays)
    for rank, arrays in ((1, "bb"), (0, "aa")):
        run.checkpoint(step, rank=rank, arrays=arrays)
    run.checkpoint(step + 5, why="rescue", rank=1, arrays="cc")
    return f"rank 0 on a and rank 1 on b do not hold the same numbers at step {step}"


def test_equal_copies_are_nothing_to_talk_about(run: FakeRun) -> None:
    for rank in (0, 1):
        run.checkpoint(94, rank=rank, arrays="aa")
    view = read_run(run.folder, only_agents)
    assert view.divergences == ()
    assert [(c.name, c.host) for c in view.checkpoints] == [("g1-s94", "a"), ("g1-s94", "b")]


def test_status_report_and_notes_tell_of_copies_that_differ_and_what_to_do(run: FakeRun) -> None:
    before = read_run(run.folder, only_agents)
    message = differ(run)
    view = read_run(run.folder, only_agents)
    assert any(message in note for note in notes(before, view))
    run.tell(
        records.CAUSE, host="b", generation=1, how="the copy of g1-s188 by rank 1 is not that of rank 0 on a",
        message=message, hint="suspect the memory",
    )  # fmt: skip
    run.tell(records.RUN_ENDED, state="failed", exit_code=1, message=message, model="")
    view = read_run(run.folder, nobody)
    status, report, ending = io.StringIO(), io.StringIO(), io.StringIO()
    print_status(view, status)
    print_report(view, [], report)
    print_ending(view, ending)
    for shown in (status, report, ending):
        assert message in shown.getvalue()
        assert "suspect the memory; then launcher resume" in shown.getvalue()
        assert "goes on from g1-s94" in shown.getvalue()
    found = values.status(view)
    assert found["divergences"] == values.report(view)["divergences"]
    assert [(d["name"], [c["rank"] for c in d["copies"]]) for d in found["divergences"]] == [("g1-s188", [0, 1])]
    assert {c["name"]: c["in_doubt"] for c in found["checkpoints"]} == {
        "g1-s94": False, "g1-s188": True, "g1-s193": True,
    }  # fmt: skip


def test_without_a_coordinator_the_journals_of_the_agents_tell_it(run: FakeRun) -> None:
    message = differ(run)
    run.finished()
    view = read_run(run.folder, nobody)
    assert (view.state, view.exit_code) == (RunState.FAILED, 1)
    assert view.cause is not None
    assert message in view.cause.message


# What is used.


def save(run: FakeRun, place: str, step: int, generation: int = 1, value: float = 1.0) -> Path:
    folder = Path(run.folder.host(place).checkpoints)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: Arrays = {"step": np.array(step, np.int64), "w": np.full(3, value, np.float32)}
    return folder / write(str(folder), Checkpoint(generation, step, 1, "every", arrays, {}))


def test_a_damaged_copy_on_the_chiefs_host_is_passed_over_for_the_one_on_the_other(run: FakeRun) -> None:
    for place in ("a", "b"):
        save(run, place, 94)
    damaged, whole = save(run, "a", 188), save(run, "b", 188)
    (damaged / "arrays.npz").write_bytes((damaged / "arrays.npz").read_bytes()[:-1])
    found = newest_checkpoint(run.folder)
    assert (found.name, found.folder) == ("g1-s188", str(whole))
    ((name, why),) = found.passed_over
    assert (name, str(damaged) in why) == ("g1-s188", True)


def test_a_checkpoint_that_only_the_second_host_has_is_found(run: FakeRun) -> None:
    save(run, "a", 94)
    newer = save(run, "b", 188)
    assert newest_checkpoint(run.folder).folder == str(newer)


@pytest.mark.parametrize("journals", [True, False])
def test_copies_that_differ_are_not_used_nor_what_came_after_them(run: FakeRun, journals: bool) -> None:
    for place in ("a", "b"):
        save(run, place, 94)
        save(run, place, 188, value=1.0 if place == "a" else 2.0)
    if journals:
        differ(run)
        save(run, "b", 193)
    found = newest_checkpoint(run.folder)
    assert found.name == "g1-s94"
    assert [name for name, _ in found.passed_over] == [*(["g1-s193"] if journals else []), "g1-s188"]
    assert ("saved after g1-s188" in found.passed_over[0][1]) == journals
    # Another generation that came from the one before is not concerned.
    save(run, "a", 100, generation=2)
    assert newest_checkpoint(run.folder).name == "g2-s100"


def test_a_damaged_copy_puts_no_whole_one_in_doubt(run: FakeRun) -> None:
    whole, other = save(run, "a", 188), save(run, "b", 188, value=2.0)
    (other / "state.json").write_bytes(b"")
    assert newest_checkpoint(run.folder).folder == str(whole)
