"""The verb `plan`: what it prints, and that it does nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from launcher.check import facts_file
from launcher.cli.plan import plan
from launcher.errors import UsageError
from launcher.plan.json_form import from_json
from tests.plan_values import facts

SPEC = """
name: job
hosts:
  - {name: here, local: true, workers: 2, gpus: 0}
  - {name: far, ssh: {host: 203.0.113.7}, gpus: 0}
secrets: [API_KEY]
program: [python, train.py]
"""
# Runs the verb with every event recorded that reaches outside of the process, or that another process could see.
WATCHED = """
import os, socket, sys
SEEN = {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.mkdir", "os.rename", "os.remove", "socket.listen"}
def watch(event, args):
    if event in SEEN:
        print("SAW", event, args, file=sys.stderr)
    if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        print("SAW", event, args, file=sys.stderr)
    if event == "socket.connect" and args[0].type & socket.SOCK_STREAM == socket.SOCK_STREAM:
        print("SAW", event, args, file=sys.stderr)
from pathlib import Path
from launcher.cli.plan import plan
sys.addaudithook(watch)
plan(Path(sys.argv[1]))
heavy = {"tensorflow", "numpy", "keras", "matplotlib", "rich", "paramiko"} & sys.modules.keys()
if heavy:
    print("SAW", heavy, file=sys.stderr)
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "a'; echo foo" / "cluster.yaml"
    path.parent.mkdir()
    path.write_text(textwrap.dedent(SPEC))
    return path


def test_it_opens_no_connection_starts_nothing_and_writes_nothing(spec: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, str(spec)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), "API_KEY": "s3cret"},
        timeout=60,
        check=True,
    )
    assert "Rank 2 on far" in done.stdout
    assert "found at check" in done.stdout
    assert "API_KEY=***" in done.stdout
    assert "s3cret" not in done.stdout
    assert done.stderr == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_facts_of_a_file_make_the_plan_whole_and_json_comes_back(
    spec: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = tmp_path / "facts.json"
    facts_file.write(file, {"far": facts("far", address="10.0.0.7"), "here": facts("here", address="10.0.0.6")})
    plan(spec, facts_file=file, as_json=True)
    value = json.loads(capfdbinary.readouterr().out)
    made = from_json(value)
    assert made.known
    assert [rank.address for rank in made.ranks] == ["10.0.0.6", "10.0.0.6", "10.0.0.7"]
    assert all("exec env TF_CONFIG=" in rank["line"] for rank in value["ranks"])


def test_one_rank_and_overrides(spec: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    plan(spec, overrides=["name=other"], as_json=True, rank=2)
    value = json.loads(capfdbinary.readouterr().out)
    assert [rank["rank"] for rank in value["ranks"]] == [2]
    assert value["ranks"][0]["line"] is None
    assert value["run"].startswith("other-2")
    with pytest.raises(UsageError, match="there is no rank 3"):
        plan(spec, rank=3)
    with pytest.raises(UsageError):
        plan(spec, rank=-1)
