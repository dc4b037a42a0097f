"""The benchmark of the start, driven with a launcher and a trainer that only pretend."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.first_step import BenchmarkError, Start, medians, phases
from benchmarks.hand_started import start_by_hand
from benchmarks.start import compare, start_by_launcher, table

ROOT = Path(__file__).parents[2]

TRAINER = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from worker.contract import records
with open(os.environ["LAUNCHER_PROGRESS_FILE"], "ab", buffering=0) as file:
    file.write(records.line("phase", name="import", seconds=0.0))
    if len(sys.argv) > 1:
        sys.exit(sys.argv[1])
    file.write(records.line("phase", name="first_step", seconds=0.0))
with open(os.environ["LAUNCHER_PROGRESS_FILE"] + ".pid", "w") as file:
    file.write(str(os.getpid()))
time.sleep(300)
"""

LAUNCHER = f"""
import json, os, signal, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from worker.contract import records
verb, runs = sys.argv[1], sys.argv[-1].partition("=")[2]
folder = os.path.join(runs, "run-1", "hosts", "here")
def rank(n):
    progress = os.path.join(folder, "g1", "rank%d.progress.jsonl" % n)
    argv = [sys.executable, os.path.join(os.path.dirname(__file__), "trainer.py")]
    env = {{"LAUNCHER_PROGRESS_FILE": progress, "TMPDIR": os.path.join(folder, "tmp")}}
    return {{"rank": n, "known": True, "argv": argv, "cwd": folder, "env": env}}
if verb == "plan":
    print(json.dumps({{"ranks": [rank(0), rank(1)]}}))
    sys.exit()
os.makedirs(os.path.join(folder, "g1"))
with open(os.path.join(runs, "run-1", "events.jsonl"), "wb") as file:
    file.write(records.line("run_created", run="run-1"))
ranks = [subprocess.Popen(rank(n)["argv"], env={{**os.environ, **rank(n)["env"]}}) for n in (0, 1)]
def stop(*_):
    for process in ranks:
        process.kill()
        process.wait()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
time.sleep(300)
"""


@pytest.fixture
def launcher(tmp_path: Path) -> list[str]:
    (tmp_path / "trainer.py").write_text(TRAINER)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    return [sys.executable, str(tmp_path / "launcher.py")]


def rank(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    (tmp_path / "trainer.py").write_text(TRAINER)
    env = {"LAUNCHER_PROGRESS_FILE": str(tmp_path / "g1" / "rank0.progress.jsonl")}
    argv = [sys.executable, str(tmp_path / "trainer.py"), *arguments]
    return {"rank": 0, "known": True, "argv": argv, "cwd": str(tmp_path / "cwd"), "env": env}


def test_a_start_by_hand_is_timed_and_leaves_nothing_alive(tmp_path: Path) -> None:
    began = time.time()
    start = start_by_hand([rank(tmp_path)])
    assert 0 < start.seconds <= time.time() - began
    assert 0 < start.marks["process"] <= start.marks["import"] <= start.marks["first_step"]
    pid_file = tmp_path / "g1" / "rank0.progress.jsonl.pid"
    if pid_file.exists() and pid_file.read_text():  # it may have been ended before it wrote its pid
        assert not Path(f"/proc/{pid_file.read_text()}").exists()


def test_a_rank_that_ends_before_its_first_step_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"rank 0 ended with 1:\nno module of that name"):
        start_by_hand([rank(tmp_path, "no module of that name")])


def test_a_start_by_the_launcher_is_timed_from_its_journals_and_stopped(tmp_path: Path, launcher: list[str]) -> None:
    start = start_by_launcher(Path("cluster.yaml"), tmp_path / "runs", 2, launcher)
    assert len(start.first_step_s) == 2
    assert 0 < start.marks["run_created"] < start.seconds
    for pid_file in (tmp_path / "runs").glob("*/hosts/*/g1/*.pid"):
        assert not Path(f"/proc/{pid_file.read_text() or 'none'}").exists()


def test_an_up_that_fails_is_told_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="not fit"):
        start_by_launcher(Path("c.yaml"), tmp_path / "runs", 2, [sys.executable, "-c", "raise SystemExit('not fit')"])


def test_both_are_started_as_often_and_in_changing_order(
    launcher: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand, by_launcher = compare(Path("cluster.yaml"), 2, launcher)
    assert (len(by_hand), len(by_launcher)) == (2, 2)
    assert "round 2" in capsys.readouterr().out


def test_medians_and_the_table() -> None:
    hand = medians([Start((1.0, 2.0), {"import": 1.0}), Start((3.0, 4.0), {"import": 3.0}), Start((9.0, 9.0), {})])
    assert hand == Start((3.0, 4.0), {"import": 2.0})
    text = table(hand, Start((4.4, 4.2), {"import": 2.5, "run_created": 0.3}))
    assert "ratio: 1.100" in text
    assert "+0.50" in text
    assert text.index("run_created") < text.index("import")


def test_a_phase_is_over_when_the_slowest_rank_says_so() -> None:
    told = [
        [{"type": "phase", "t": 11.0, "name": "import", "seconds": 0.5}],
        [{"type": "phase", "t": 12.0, "name": "import", "seconds": None}, {"type": "step", "t": 13.0}],
    ]
    assert phases(told, 10.0) == {"process": 2.0, "import": 2.0}
