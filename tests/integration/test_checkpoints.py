"""Checkpoints are written beside the training, whole or not at all, and only of weights that all workers share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rescue_proof import make_data, make_job
from worker.contract import checkpoints, records
from worker.contract.layout import parse_checkpoint_name
from worker.contract.states import WorkerExit

from .training import WORKER, Rank, cluster

pytestmark = pytest.mark.tensorflow

MEDDLED = (str(Path(__file__).with_name("meddler.py")), str(WORKER), "train")
ENDLESS = 100_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.npz"
    make_data(path)
    return path


def names(rank: Rank) -> list[str]:
    """The checkpoints that are there under a final name."""
    return [path.name for path in rank.checkpoints.iterdir() if parse_checkpoint_name(path.name)]


def under_way(rank: Rank) -> list[Path]:
    return [path for path in rank.checkpoints.iterdir() if not parse_checkpoint_name(path.name)]


def wait_until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def steps_go_on(rank: Rank) -> None:
    """Waits for two more epochs' worth of records."""
    told = len(rank.told(records.STEP))
    wait_until(lambda: len(rank.told(records.STEP)) >= told + 3, "steps went on")


def test_training_goes_on_while_a_slow_disk_writes_and_a_kill_leaves_no_half_checkpoint(
    tmp_path: Path, data: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    job = make_job(data, ENDLESS, every_seconds=0.1)
    with cluster(tmp_path, job, line=MEDDLED, of_rank={0: {"MEDDLE_HOLD": str(hold)}}) as slow:
        chief = slow[0]
        chief.wait_for(records.PHASE, name="first_step")
        wait_until(lambda: under_way(chief), "a checkpoint was begun")
        steps_go_on(chief)
        # One at a time: what falls due by time meanwhile is left out.
        assert len(under_way(chief)) == 1
        assert names(chief) == []
        assert chief.told(records.SAVED) == []
        hold.unlink()
        wait_until(lambda: len(names(chief)) >= 2, "checkpoints were written")
        hold.touch()
        wait_until(lambda: under_way(chief), "another was begun")
        chief.process.kill()
        assert slow[1].wait() == WorkerExit.RESCUED
    assert under_way(chief) != []
    for name in names(chief):
        assert checkpoints.verify(str(chief.checkpoints / name)) == []


def test_a_copy_on_a_slow_disk_leaves_checkpoints_out_and_holds_nobody_up(tmp_path: Path, data: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    job = make_job(data, ENDLESS, every_seconds=0.1, saves=True)
    with cluster(tmp_path, job, line=MEDDLED, of_rank={1: {"MEDDLE_HOLD": str(hold)}}) as slow:
        chief, other = slow.ranks
        chief.wait_for(records.SAVED)
        wait_until(lambda: under_way(other), "the copy was begun")
        steps_go_on(chief)
        assert (len(names(chief)), names(other)) == (1, []), "the next one waits for both"
        hold.unlink()
        wait_until(lambda: min(len(names(other)), len(names(chief))) >= 3, "copies were written")
        for record in other.told(records.SAVED)[:2]:
            files = [rank.checkpoints / record["folder"] / checkpoints.ARRAYS for rank in slow.ranks]
            assert files[0].read_bytes() == files[1].read_bytes()
            assert record["why"] == "every"


def test_a_stop_waits_for_the_checkpoint_that_is_being_written(tmp_path: Path, data: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    job = make_job(data, ENDLESS, every_seconds=0.1)
    with cluster(tmp_path, job, line=MEDDLED, env={"MEDDLE_HOLD": str(hold)}) as slow:
        slow[0].wait_for(records.PHASE, name="first_step")
        wait_until(lambda: under_way(slow[0]), "a checkpoint was begun")
        steps_go_on(slow[0])
        slow[1].send({"type": "stop"})
        # It has arrived when no more steps are told.
        steps = -1
        while steps != len(slow[0].told(records.STEP)):
            steps = len(slow[0].told(records.STEP))
            time.sleep(1.0)
        assert slow[0].process.poll() is slow[1].process.poll() is None
        hold.unlink()
        assert slow.wait() == [WorkerExit.STOPPED] * 2, slow[0].log
    assert [record["why"] for record in slow[0].told(records.SAVED)] == ["every", "asked"]
    assert sorted(names(slow[0])) == sorted(record["folder"] for record in slow[0].told(records.SAVED))


def test_a_full_disk_costs_the_checkpoint_and_not_the_run_until_the_last_one(tmp_path: Path, data: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    job = make_job(data, 3, every_epochs=1)
    with cluster(tmp_path, job, workers=1, line=MEDDLED, env={"MEDDLE_FULL": str(full)}) as cramped:
        assert cramped.wait() == [WorkerExit.ERROR]
    assert [record["epoch"] for record in cramped[0].told(records.EPOCH)] == [1, 2, 3]
    (failure,) = cramped[0].told(records.FAILURE)
    assert "could not be saved" in failure["message"]
    assert "No space left" in failure["message"]
    assert cramped[0].log.count("training goes on") == 2
    assert list(cramped[0].checkpoints.iterdir()) == []


def test_every_with_several_units_saves_for_each_of_them(tmp_path: Path, data: Path) -> None:
    with cluster(tmp_path, make_job(data, 4, every_epochs=2, every_steps=15, every_seconds=0.01), workers=1) as all_:
        assert all_.wait() == [WorkerExit.DONE], all_[0].log
    steps = {record["step"] for record in all_[0].told(records.SAVED)}
    assert {15, 20, 30, 40} < steps, "by time there are more"


def test_weights_that_differ_stop_the_run_before_they_are_saved_and_name_the_rank(tmp_path: Path, data: Path) -> None:
    flip = tmp_path / "flip"
    job = make_job(data, ENDLESS, every_steps=10)
    with cluster(tmp_path, job, workers=3, line=MEDDLED, of_rank={1: {"MEDDLE_FLIP": str(flip)}}) as split:
        split[0].wait_for(records.SAVED)
        flip.touch()
        assert split.wait() == [WorkerExit.NOT_FIT] * 3, split[1].log
    failures = [rank.told(records.FAILURE)[0] for rank in split.ranks]
    assert {failure["reason"] for failure in failures} == {"cluster"}
    assert all("rank 1 differs" in failure["message"] for failure in failures)
    assert max(record["step"] for record in split[0].told(records.SAVED)) < failures[0]["step"]
    assert split[1].told(records.SAVED) == split[2].told(records.SAVED) == []
