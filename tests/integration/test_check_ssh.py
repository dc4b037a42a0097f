"""`launcher check` over real SSH."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.sshd import SshHosts, sshd_hosts, why_no_sshd
from worker.contract.machine import ports

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd() or "there is an sshd")

SPEC = """
name: job
hosts:
  - {name: h1, ssh: h1}
  - {name: h2, ssh: h2}
MORE
host_defaults: {gpus: 0, python: PYTHON, ports: LOW-HIGH}
timeouts: {connect: 2 s}
coordinator: {runs: runs}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    with sshd_hosts(tmp_path_factory.mktemp("lab"), 2) as hosts:
        yield hosts


def check(lab: SshHosts, folder: Path, *more: str) -> tuple[int, str, str]:
    """Exit code and output of a check from a home whose ssh_config is the lab's."""
    (folder / ".ssh").mkdir(mode=0o700)
    (folder / ".ssh" / "config").write_text(f"Include {lab.config}\n")
    low = ports.free(31910, 32300, 1)[0]
    text = SPEC.replace("LOW", str(low)).replace("HIGH", str(low + 20)).replace("PYTHON", sys.executable)
    (folder / "cluster.yaml").write_text(text.replace("MORE\n", "".join(f"  - {line}\n" for line in more)))
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "check", str(folder / "cluster.yaml"), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(folder)},
        timeout=90,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_hosts_over_ssh_tell_their_facts_and_try_all_pairs(lab: SshHosts, tmp_path: Path) -> None:
    code, out, err = check(lab, tmp_path)
    value = json.loads(out or "{}")
    assert code in (0, 3), err  # 3: there may be no TensorFlow here
    assert [finding["check"] for finding in value["findings"] if finding["verdict"] == "fail"] in (
        [],
        ["tensorflow"] * 2,
    )
    assert value["found"]["h1"]["home"] == str(lab[0].home)
    assert value["found"]["h2"]["disk"]["path"] == f"{lab[1].home}/launcher-work"
    assert {(pair["source"], pair["target"], pair["why"]) for pair in value["pairs"]} == {
        *(("h1", "h2", ""), ("h2", "h1", "")),
    }


def test_a_host_that_accepts_and_never_answers_costs_the_deadline_and_hides_no_other(
    lab: SshHosts, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun = time.monotonic()
        code, out, err = check(lab, tmp_path, f"{{name: silent, ssh: {{host: 127.0.0.1, port: {port}}}}}")
        took = time.monotonic() - begun
    assert code == 3, err
    value = json.loads(out)
    (wrong,) = [f for f in value["findings"] if f["check"] == "reach" and f["verdict"] == "fail"]
    assert wrong["hosts"] == ["silent"]
    assert set(value["found"]) == {"h1", "h2"}
    assert took < 15
