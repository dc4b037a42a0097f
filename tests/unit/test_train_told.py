"""What a rank tells of its steps, and what of its journey a checkpoint keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker.contract import records
from worker.train.journey import Journey
from worker.train.order import Schedule
from worker.train.progress import Progress
from worker.train.teller import Teller

SCHEDULE = Schedule(images=600, batch=63, epochs=3)  # ten steps an epoch, the last of 33 images


def told(path: Path) -> list[records.Record]:
    return records.parse(path.read_bytes())[0]


def walk(path: Path, steps: list[tuple[float, int, float]], start: Journey) -> list[records.Record]:
    """The STEP records after chunks that ended at (time, step, the epoch's sum of losses)."""
    now = [0.0]
    teller = Teller(SCHEDULE, 2, Progress(str(path)), start, clock=lambda: now[0])
    for now[0], start.step, start.loss_sum in steps:
        teller.steps(start)
    return told(path)


def test_each_record_has_the_mean_loss_and_the_rate_since_the_one_before(tmp_path: Path) -> None:
    first, second, third = walk(tmp_path / "p", [(1, 1, 126.0), (2, 5, 252.0), (3, 10, 600.0)], Journey())
    assert (first["epoch"], first["step"], first["steps"]) == (1, 1, 30)
    assert [record["loss"] for record in (first, second)] == [2.0, 126 / 252]
    assert third["loss"] == pytest.approx(348 / (600 - 315))
    assert [r["images_per_second"] for r in (first, second, third)] == [31.5, 126.0, 142.5], "this worker's half"


def test_a_record_that_spans_two_epochs_has_the_new_ones_loss_and_the_whole_rate(tmp_path: Path) -> None:
    (record,) = walk(tmp_path / "p", [(1, 12, 252.0)], Journey(step=8, loss_sum=9999.0))
    assert (record["epoch"], record["loss"], record["images_per_second"]) == (2, 2.0, (96 + 126) / 2)


def test_short_chunks_are_told_together_but_the_first_step_and_an_epochs_end_at_once(tmp_path: Path) -> None:
    steps = [(0.05, 1, 1.0), (0.1, 2, 1.0), (0.15, 3, 1.0), (0.2, 10, 1.0)]
    assert [record["step"] for record in walk(tmp_path / "p", steps, Journey())] == [1, 10]


def test_a_journey_survives_its_checkpoint() -> None:
    history: list[dict[str, Any]] = [{"epoch": 1, "loss": 0.5}]
    journey = Journey(step=14, loss_sum=1.5, correct=99, train_seconds=2.25, history=history)
    arrays = {"step": 14, "epoch/loss_sum": 1.5, "epoch/correct": 99}
    assert Journey.from_state(journey.as_state(), arrays, SCHEDULE) == journey


@pytest.mark.parametrize(("step", "epochs", "fits"), [(0, 0, True), (9, 0, True), (9, 1, False), (10, 0, True),
                                                      (10, 1, True), (10, 2, False), (20, 0, False)])  # fmt: skip
def test_a_history_must_fit_its_step(step: int, epochs: int, fits: bool) -> None:
    state = Journey(history=[{"epoch": number + 1} for number in range(epochs)]).as_state()
    arrays = {"step": step, "epoch/loss_sum": 0.0, "epoch/correct": 0}
    if fits:
        assert Journey.from_state(state, arrays, SCHEDULE).awaits_validation(SCHEDULE) == (step == 10 and epochs == 0)
    else:
        with pytest.raises(ValueError, match="history"):
            Journey.from_state(state, arrays, SCHEDULE)


def test_a_full_disk_costs_records_and_never_the_run(tmp_path: Path) -> None:
    # A limit on the file's size stands in for a full disk: the write that crosses it is cut short, the next one fails.
    script = """if True:
        import resource, signal, sys
        from worker.train.progress import Progress
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        progress = Progress(sys.argv[1])
        for step in range(5):
            progress.write("step", step=step)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        progress.write("step", step=99)
    """
    path = tmp_path / "p"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count("progress cannot be written") == 1
    steps = [record["step"] for record in told(path)]
    assert steps[0] == 0
    assert steps[-1] == 99
    assert len(steps) < 6


def test_a_progress_file_that_cannot_be_made_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(os.fspath(tmp_path / "nowhere" / "p"))
    progress.write(records.STEP, step=1)
    progress.write(records.STEP, step=2)
    assert capsys.readouterr().err.count("\n") == 1
