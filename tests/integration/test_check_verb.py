"""The verb `check`, as it is typed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker.contract.machine import ports

LOCAL = """
name: job
hosts:
  - {name: here, local: true, workers: 2, gpus: 0, ports: LOW-HIGH, python: PYTHON}
coordinator: {runs: runs}
"""


def check(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", "check", str(folder / "cluster.yaml"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(folder), "COLUMNS": "100", **environ},
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    low = ports.free(31600, 31900, 1)[0]
    text = LOCAL.replace("LOW", str(low)).replace("HIGH", str(low + 9)).replace("PYTHON", sys.executable)
    (tmp_path / "cluster.yaml").write_text(text)
    return tmp_path


def have_tensorflow() -> bool:
    from importlib.util import find_spec

    return find_spec("tensorflow") is not None


def test_a_fit_machine_is_shown_as_a_table_with_exit_code_0(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    done = check(folder)
    assert done.stderr == ""
    if have_tensorflow():
        assert done.returncode == 0, done.stdout
        assert "Fit: 1 host, 2 workers" in done.stdout
    header, row = done.stdout.splitlines()[:2]
    assert header.split()[:4] == ["host", "reach", "python", "tensorflow"]
    assert row.split()[:2] == ["here", "here"]
    assert "2 × CPU" in done.stdout
    assert sorted(folder.rglob("*")) == before


def test_json_and_the_file_of_facts_are_what_plan_reads(folder: Path) -> None:
    done = check(folder, "--json", "--facts-out", str(folder / "facts.json"))
    value: dict[str, Any] = json.loads(done.stdout)
    assert set(value) == {"version", "hosts", "fit", "findings", "pairs", "found"}
    assert value["fit"] == (done.returncode == 0)
    assert {f["check"] for f in value["findings"]} >= {"reach", "python", "tensorflow", "ports", "pairs"}
    assert json.loads((folder / "facts.json").read_text())["hosts"] == value["hosts"]
    (folder / "all.json").write_text(done.stdout)
    for name in ("facts.json", "all.json"):
        planned = subprocess.run(
            [
                sys.executable,
                "-m",
                "launcher",
                "plan",
                str(folder / "cluster.yaml"),
                "--facts",
                str(folder / name),
                "--json",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert json.loads(planned.stdout)["known"]


def test_what_is_not_fit_has_exit_code_3_and_the_fix_below_the_table(folder: Path) -> None:
    bare = folder / "bare"
    bare.write_text(f"#!/bin/sh\nexec '{sys.executable}' -S \"$@\"\n")
    bare.chmod(0o755)
    done = check(folder, "--set", f"hosts[0].python={bare}")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "FAIL missing" in done.stdout
    assert "FAIL tensorflow: here: TensorFlow and Keras are not installed" in done.stdout
    assert f"     next: on here: {bare} -m pip install" in done.stdout
    assert "Not fit: 1 thing to mend" in done.stdout


def test_a_proxy_in_the_environment_is_no_reason_not_to_train(folder: Path) -> None:
    done = check(folder, https_proxy="http://proxy:3128")
    assert "passed by" in done.stdout
    assert "FAIL proxies" not in done.stdout


def test_without_a_free_port_the_host_is_not_fit(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = check(folder, "--set", f"hosts[0].ports={port}-{port}", "--set", "hosts[0].workers=1")
    assert done.returncode == 3
    assert f"nothing is free in {port}-{port}" in done.stdout


@pytest.mark.tensorflow
def test_a_deep_check_adds_up_over_all_workers(folder: Path) -> None:
    done = check(folder, "--deep", "--json")
    value = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    (deep,) = [finding for finding in value["findings"] if finding["check"] == "deep"]
    assert "2 replicas added up 1 MB right, twice" in deep["what"]
