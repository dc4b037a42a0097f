"""list, status, logs and report as a person and a script use them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.app import run as launcher
from tests.fake_run import FakeRun, append
from tests.unit.test_runs_alive import start_time
from worker.contract import records
from worker.contract.layout import agent_socket, coordinator_socket

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAUNCHER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "runs"


def test_list_as_json_is_an_array_newest_first(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FakeRun(runs, "a-1").created().started().first_step().trained()
    later = FakeRun(runs, "b-1")
    later.now += 1000
    later.created()
    assert launcher(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(item["run"], item["state"]) for item in found] == [("b-1", "failed"), ("a-1", "trained")]
    assert {"run", "path", "state", "started_at"} <= set(found[0])
    assert found[1]["path"] == str(runs / "a-1")
    assert launcher(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["b-1", "failed"]


def test_list_of_nothing_is_an_empty_array_and_no_error(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launcher(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    FakeRun(tmp_path / "else where", "x-1").created()
    assert launcher(["list", "--json", "--runs", str(tmp_path / "else where")]) == 0
    assert [item["run"] for item in json.loads(capsys.readouterr().out)] == ["x-1"]
    assert launcher(["list"]) == 0
    assert str(runs) in capsys.readouterr().err


def test_status_as_json_has_the_promised_keys(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FakeRun(runs, "a-1").created().started().first_step().trained()
    assert launcher(["status", "a", "--json"]) == 0
    status: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert {"run", "path", "state", "coordinator_pid", "generation", "ranks"} <= set(status)
    assert (status["coordinator_pid"], status["generation"]) == (None, 1)
    promised = {"rank", "host", "pid", "state", "epoch", "step", "images_per_second"}
    assert all(promised <= set(rank) for rank in status["ranks"])
    assert [rank["state"] for rank in status["ranks"]] == ["finished", "finished"]
    assert launcher(["status"]) == 0
    assert "finished" in capsys.readouterr().out


def test_report_prints_writes_and_speaks_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = FakeRun(runs, "a-1").created().started().first_step().trained()
    assert launcher(["report", "--json", "--no-pictures"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["test_accuracy"], len(report["epochs"]), report["exit_code"]) == (0.89, 5, 0)
    assert sorted(path.name for path in run.folder.report.iterdir()) == ["metrics.csv", "metrics.json"]
    assert launcher(["report"]) == 0
    out = capsys.readouterr().out
    assert "test accuracy  0.8900" in out
    assert (run.folder.report / "loss.png").exists()


def test_logs_have_prefixes_fold_the_noise_and_are_complete(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = FakeRun(runs, "a-1", hosts=("x", "y")).created().started().first_step()
    run.log(0, b"I0000 00:00:1767323050.5    5937 port.cc:153] oneDNN\nhello\n")
    run.log(1, b"".join(b"line %d\n" % i for i in range(100_000)) + b"the end")
    assert launcher(["logs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "[r0 x] hello",
        "[r0 x] (1 line of TensorFlow's start-up folded; --verbose shows it)",
        "[r1 y] line 0",
    ]
    assert len(lines) == 2 + 100_001
    assert lines[-1] == "[r1 y] the end"
    assert launcher(["logs", "--rank", "0", "--verbose"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("oneDNN")
    assert launcher(["logs", "--rank", "7"]) == 2
    assert "its ranks are 0 to 1" in capsys.readouterr().err


def test_logs_of_an_ended_run_with_follow_end(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = FakeRun(runs, "a-1").created().started().first_step()
    run.log(0, b"hello\n")
    run.trained()
    assert launcher(["logs", "-f"]) == 0
    assert capsys.readouterr().out == "[r0 here] hello\n"


@pytest.fixture
def alive(runs: Path) -> Iterator[FakeRun]:
    """A run whose coordinator and agent are this very process."""
    run = FakeRun(runs, "a-1").created(pid=os.getpid())
    run.agent_process = {"pid": os.getpid(), "start_time": start_time(os.getpid())}
    run.started().first_step()
    with ExitStack() as stack:
        for address in (coordinator_socket(str(run.folder.path)), agent_socket(run.host(0).root)):
            server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            server.bind(address)
            server.listen(100)
        yield run


@pytest.fixture
def followed(alive: FakeRun) -> Iterator[subprocess.Popen[str]]:
    """`logs -f` of that run, which has shown its first line."""
    alive.log(0, b"hello\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher", "logs", "-f"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "[r0 here] hello\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_logs_with_follow_go_through_generations_to_the_end(alive: FakeRun, followed: subprocess.Popen[str]) -> None:
    alive.ended(1, "failed", exit_code=1)
    alive.ended(0, "rescued", exit_code=81)
    alive.started(resumes="g1-s94").first_step()
    alive.log(1, b"again\nunfinished")
    assert followed.stdout is not None
    assert followed.stdout.readline() == "[r1 here g2] again\n"
    alive.trained()
    out, _ = followed.communicate(timeout=20)
    assert (out, followed.returncode) == ("[r1 here g2] unfinished\n", 0)


def test_ctrl_c_leaves_logs_with_follow_without_a_word(alive: FakeRun, followed: subprocess.Popen[str]) -> None:
    before = alive.folder.journal.read_bytes()
    followed.send_signal(signal.SIGINT)
    out, _ = followed.communicate(timeout=20)
    assert (out, followed.returncode) == ("", 0)
    assert alive.folder.journal.read_bytes() == before


def test_status_of_a_living_run_shows_its_coordinator(alive: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert launcher(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["run"], status["state"]) == (alive.folder.name, "training")
    assert status["coordinator_pid"] == os.getpid()
    assert status["agents"] == [{"host": "here", "pid": os.getpid()}]
    assert [rank["pid"] for rank in status["ranks"]] == [5000, 5001]


def test_logs_into_a_pipe_that_closes_are_no_error(runs: Path) -> None:
    run = FakeRun(runs, "a-1").created().started().first_step()
    run.log(0, b"some line of text\n" * 200_000)
    command = f"'{sys.executable}' -m launcher logs | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[r0 here] some line of text\n", "")


def test_an_unknown_run_is_a_usage_error_that_names_the_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launcher(["status"]) == 2
    assert "there is no run" in capsys.readouterr().err
    FakeRun(runs, "a-1").created()
    assert launcher(["status", "zzz"]) == 2
    assert "a-1" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["list", "status", "logs", "report"])
def test_a_corrupted_run_folder_is_never_a_traceback(runs: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = FakeRun(runs, "a-1").created().started().first_step()
    append(str(run.folder.journal), b"\xff\x00{{{\n" + b'{"type":"generation_started","generation":9,"ranks":3}\n')
    run.agent("here", records.RANK_EPOCH, generation=9, rank=0, epoch="x")
    append(run.host(0).log(1, 0), b"\xff\xfe\x00")
    (Path(run.host(0).generation(1)) / "rank1.progress.jsonl").write_bytes(b"\x00" * 100_000)
    assert launcher([verb, "--json"] if verb != "logs" else [verb]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("verb", ["list", "status", "logs", "report"])
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    launcher([verb, "--help"])
    assert f"launcher {verb}" in capsys.readouterr().out
