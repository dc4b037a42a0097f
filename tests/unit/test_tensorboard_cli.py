"""`launcher tensorboard`: it starts TensorBoard on what has come home, or says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from launcher.runs.folder import RunFolder
from tests.fake_run import FakeRun

ROOT = Path(__file__).parents[2]

# The real one would be found first.
pytestmark = pytest.mark.skipif(find_spec("tensorboard") is not None, reason="TensorBoard is installed")


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "runs", hosts=("a", "b")).created().started().first_step()


def tensorboard(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the verb does where TensorBoard is a program that prints what it was told."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "tensorboard").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (programs / "tensorboard").chmod(0o700)
    return command(tmp_path, str(programs), *arguments)


def command(tmp_path: Path, path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path), "LAUNCHER_RUNS": str(tmp_path / "runs")}
    environment |= {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "launcher", "tensorboard", *arguments]
    return subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)


def write_event_file(run: RunFolder, host: str) -> None:
    folder = Path(run.host(host).root) / "output" / "train"
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.1.h.1.0.v2").write_bytes(b"...")


def test_it_starts_on_the_files_of_all_hosts(run: FakeRun, tmp_path: Path) -> None:
    run.trained()
    write_event_file(run.folder, "b")
    done = tensorboard(tmp_path, "fashion", "--port", "6010")
    words = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert words[words.index("--logdir") + 1] == str(run.folder.path / "hosts")
    assert words[words.index("--port") + 1] == "6010"
    assert words[words.index("--host") + 1] == "localhost"


def test_a_run_that_has_ended_without_any_says_how_a_program_writes_them(run: FakeRun, tmp_path: Path) -> None:
    run.trained()
    done = tensorboard(tmp_path)
    assert done.returncode == 1
    assert "no event files" in done.stderr
    assert "LAUNCHER_OUTPUT_DIR" in done.stderr


def test_without_tensorboard_it_says_how_to_install_it(run: FakeRun, tmp_path: Path) -> None:
    write_event_file(run.folder, "a")
    (tmp_path / "empty").mkdir()
    done = command(tmp_path, str(tmp_path / "empty"))
    assert done.returncode == 2
    assert "pip install tensorboard" in done.stderr
