"""`make lab`: what a person gets who types it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from tests.integration.harness import ROOT
from tests.lab.sshd import why_no_sshd

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())


def lab(folder: Path, *more: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.lab", "--folder", str(folder), *more]
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    said = ""
    while words not in said:
        line = process.stdout.readline()
        assert line, f"{words!r} never came, but {said!r}"
        said += line
    return said


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_lab_is_up_until_it_is_told_to_end(tmp_path: Path, end: signal.Signals) -> None:
    folder = tmp_path / "lab"
    with lab(folder, "--hosts", "2") as process:
        assert f"ssh -F {folder}/ssh_config h1" in read_until(process, "Ctrl-C ends")
        document = yaml.safe_load((folder / "cluster.yaml").read_text())
        assert [host["name"] for host in document["hosts"]] == ["h1", "h2"]
        argv = ["ssh", "-F", str(folder / "ssh_config"), "h2", "echo there"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.stdout == "there\n"
        assert process.stdin is not None
        process.stdin.write("crash h2\ndance h1\n")
        process.stdin.flush()
        read_until(process, "h2: done")
        read_until(process, "was expected")
        assert subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 255
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(end)
        assert process.wait(20) == (0 if end == signal.SIGINT else 1)
    assert not folder.exists()
    assert not [one for one in below if one.is_running()]


def test_a_folder_that_is_no_labs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with lab(tmp_path) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "not from an earlier lab" in errors
    assert (tmp_path / "mine").read_text() == "precious"
