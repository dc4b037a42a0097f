"""Reports are whole, honest and drawn without a display; the last thing on the screen is the cause or the next step."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import RunError
from launcher.runs.read import read_run
from launcher.view import values
from launcher.view.ending import print_ending
from launcher.view.figures import epoch_line
from launcher.view.report import print_report, write_report
from launcher.view.tables import print_epochs
from tests.fake_run import FakeRun, everybody, nobody, only_agents
from tests.unit.test_view_text import STARTUP
from worker.contract import records


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "runs of\n'mine'").created()


def ending(run: FakeRun, probe: object = nobody) -> str:
    out = io.StringIO()
    print_ending(read_run(run.folder, probe), out)  # type: ignore[arg-type]
    return out.getvalue()


def test_a_report_is_two_pictures_and_the_metrics_as_csv_and_json(run: FakeRun) -> None:
    run.started().first_step().trained()
    view = read_run(run.folder, nobody)
    files = write_report(run.folder, view)
    assert [path.name for path in files] == ["loss.png", "accuracy.png", "metrics.csv", "metrics.json"]
    assert sorted(path.name for path in run.folder.report.iterdir()) == sorted(path.name for path in files)
    for picture in files[:2]:
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG\r\n")
        assert struct.unpack(">II", data[16:24]) == (1080, 660)
    with open(files[2], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert float(rows[1]["val_loss"]) == pytest.approx(0.55)
    assert json.loads(files[3].read_text()) == values.report(view)


def test_the_keys_of_a_report_and_of_its_epochs_are_as_promised(run: FakeRun) -> None:
    run.started().first_step().trained()
    report = values.report(read_run(run.folder, nobody))
    assert {"run", "path", "state", "exit_code", "generations", "epochs", "test_loss", "test_accuracy"} <= set(report)
    assert {"time_to_first_step_s", "model"} <= set(report)
    assert (report["state"], report["exit_code"], report["generations"]) == ("trained", 0, 1)
    assert list(report["epochs"][0]) == [
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "seconds",
        "images_per_second",
        "metrics",
    ]
    assert report["started_at"] == "2026-01-02T03:04:04.500Z"


def test_a_models_own_metrics_are_in_the_table_the_csv_the_json_and_the_line_of_an_epoch(run: FakeRun) -> None:
    run.started().first_step()
    metrics = {"accuracy": 0.5, "top2": 0.75, "mean\x1b[31m": None, "val_accuracy": 0.4, "val_top2": 0.7}
    run.epoch(1, metrics=metrics).epoch(2, metrics={**metrics, "accuracy": 0.75, "top2": 0.8125})
    view = read_run(run.folder, everybody)
    out = io.StringIO()
    print_report(view, [], out)
    (heading,) = [line.split() for line in out.getvalue().splitlines() if line.startswith("epoch ")]
    # Accuracy is what the trainer says, too; that of validation is not.
    assert heading[-4:] == ["top2", "val_top2", "mean", "own_val_accuracy"]
    row = next(line.split() for line in out.getvalue().splitlines() if line.split()[:1] == ["2"])
    assert row[-4:] == ["0.8125", "0.7000", "–", "0.4000"]
    assert "\x1b" not in out.getvalue()
    write_report(run.folder, view, pictures=False)
    with open(run.folder.report / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*values.EPOCH_KEYS, "top2", "val_top2", "mean\x1b[31m", "own_val_accuracy"]
    assert [(row["top2"], row["mean\x1b[31m"]) for row in rows] == [("0.75", ""), ("0.8125", "")]
    told = json.loads((run.folder.report / "metrics.json").read_text())
    assert told["epochs"][0]["metrics"] == metrics
    assert "top2 0.8125  mean" in epoch_line(view.epochs[1], 2)


def test_metrics_that_do_not_fit_a_narrow_screen_are_a_table_of_their_own(
    run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.started().first_step()
    run.epoch(1, metrics={f"metric_{number}": number / 10 for number in range(9)})
    monkeypatch.setattr("launcher.view.rows._WIDTH_IN_A_FILE", 100)
    out = io.StringIO()
    print_epochs(read_run(run.folder, everybody), out)
    headings = [line for line in out.getvalue().splitlines() if line.startswith("epoch ")]
    assert len(headings) == 2
    assert all(len(line.rstrip()) <= 100 for line in out.getvalue().splitlines())
    assert sum(line.split().count("metric_7") for line in headings) == 1


def test_an_accuracy_that_only_the_model_knows_is_the_accuracy(run: FakeRun) -> None:
    run.started().first_step().epoch(
        1, accuracy=None, val_accuracy=None, metrics={"accuracy": 0.5, "val_accuracy": 0.25}
    )
    (epoch,) = read_run(run.folder, everybody).epochs
    assert (epoch.accuracy, epoch.val_accuracy) == (0.5, 0.25)
    assert values.own_metrics([epoch]) == {}


def test_a_run_without_epochs_says_so_and_has_no_pictures(run: FakeRun) -> None:
    run.started().first_step().trained()
    write_report(run.folder, read_run(run.folder, nobody))
    run.coordinator(term=2)
    run.started()
    view = read_run(run.folder, everybody)
    assert [path.name for path in write_report(run.folder, view)] == ["metrics.json"]
    assert [path.name for path in run.folder.report.iterdir()] == ["metrics.json"]
    out = io.StringIO()
    print_report(view, [], out)
    assert "no epoch was finished" in out.getvalue()


def test_one_epoch_gaps_and_missing_accuracy_are_drawn(run: FakeRun) -> None:
    run.started().first_step()
    run.epoch(1, accuracy=None, val_accuracy=None, loss=float("nan"), val_loss=None)
    assert [p.name for p in write_report(run.folder, read_run(run.folder, nobody))] == ["metrics.csv", "metrics.json"]
    run.epoch(2, accuracy=None, val_accuracy=None)
    run.epoch(3, accuracy=None, val_accuracy=None, loss=None, val_loss=1e300)
    names = [path.name for path in write_report(run.folder, read_run(run.folder, nobody))]
    assert names == ["loss.png", "metrics.csv", "metrics.json"]


def test_pictures_can_be_left_out_and_matplotlib_is_then_not_imported(run: FakeRun) -> None:
    run.started().first_step().trained()
    code = (
        "import sys; from pathlib import Path; from launcher.runs.folder import RunFolder;"
        "from launcher.runs.read import read_run; from launcher.view.report import write_report;"
        "folder = RunFolder(Path(sys.argv[1])); files = write_report(folder, read_run(folder), pictures=False);"
        "print([f.name for f in files], 'matplotlib' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.folder.path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "['metrics.csv', 'metrics.json'] False False\n"


def test_a_full_disk_leaves_the_earlier_report_whole_and_says_what_to_do(
    run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.started().first_step().trained()
    view = read_run(run.folder, nobody)
    files = write_report(run.folder, view)
    before = {path.name: path.read_bytes() for path in files}

    def full(fd: int) -> None:  # noqa: ARG001
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="no space left") as error:
        write_report(run.folder, view)
    assert "free space" in error.value.hint
    assert {path.name: path.read_bytes() for path in run.folder.report.iterdir()} == before


def test_a_trained_run_ends_with_epochs_accuracy_and_where_the_model_is(run: FakeRun) -> None:
    run.started().first_step().trained()
    text = ending(run)
    assert "accuracy 0.8900" in text
    assert "output/model.keras" in text
    assert text.splitlines()[-1].startswith("fashion-cnn-20260102-030405: trained in")


def test_a_failed_run_ends_with_its_cause_the_last_lines_of_its_log_and_the_next_step(run: FakeRun) -> None:
    run.started().first_step().epoch(1)
    name = run.checkpoint(94)
    run.log(1, STARTUP.read_bytes() + b"Traceback\n\x1b[2J\x1b[1mValueError: no\n")
    log = run.host(1).log(1, 1)
    run.tell(
        records.CAUSE, rank=1, host="here", generation=1, how="SIGKILL", message="it was killed", log=log, lines=[]
    )
    run.tell(records.RUN_ENDED, state="failed", exit_code=1, message="rank 1 died", model="")
    text = ending(run)
    lines = text.splitlines()
    cause = next(i for i, line in enumerate(lines) if line.startswith("cause:"))
    assert lines[cause] == "cause: rank 1 on here: ended with SIGKILL"
    assert lines[cause + 1 :] == [
        "  it was killed",
        "  the last lines of its log:",
        "    | value 3.1871156692504883",
        "    | Traceback",
        "    | ValueError: no",
        "  the whole log: " + log.replace("\n", "␊"),
        f"  next: launcher resume fashion-cnn-20260102-030405 goes on from {name}",
    ]


def test_lines_in_the_journal_are_taken_before_the_log_and_a_lost_log_is_no_error(run: FakeRun) -> None:
    run.started()
    run.tell(records.CAUSE, rank=0, host="here", generation=1, how="exit code 3", lines=["boom\x1b[2J"], hint="mend it")
    run.tell(records.RUN_ENDED, state="failed", exit_code=1, message="", model="")
    text = ending(run)
    assert "    | boom\n" in text
    assert text.endswith("  next: mend it\n")


def test_stopped_and_parked_runs_end_with_how_to_go_on(run: FakeRun) -> None:
    run.started().first_step()
    run.tell(records.RUN_ENDED, state="stopped", exit_code=130, message="asked by down", model="")
    assert ending(run).splitlines()[-2:] == [
        "  no checkpoint was made: a resumed run starts from the beginning",
        "  go on: launcher resume fashion-cnn-20260102-030405",
    ]


def test_a_run_that_goes_on_without_its_coordinator_says_how_to_see_and_stop_it(run: FakeRun) -> None:
    run.started().first_step()
    text = ending(run, only_agents)
    assert "the coordinator is gone" in text
    assert text.splitlines()[-1] == "  stop: launcher down fashion-cnn-20260102-030405"


def test_a_killed_agent_is_named_as_the_cause(run: FakeRun) -> None:
    run.started().first_step()
    assert "cause: here: the agent is gone" in ending(run)
