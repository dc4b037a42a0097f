"""`keep_warm` on hosts over SSH: each login is another one, and what was kept is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.far import far_in
from tests.integration.harness import wait_for
from worker.contract import records

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]


def test_hosts_are_found_warm_by_the_next_up_and_down_ends_it(tmp_path: Path) -> None:
    with far_in(tmp_path) as far:
        job = "train: {dataset: fashion-mnist-mini, epochs: 1, batch_size: 500}\nrestart: {keep_warm: 10 min}\n"
        spec, launcher = far.spec(job), far.launcher
        runs: list[Path] = []
        for _ in range(2):
            before = set(launcher.runs.glob("*")) if launcher.runs.exists() else set()
            said = launcher.run("up", str(spec), "--plain", timeout_s=200.0).stdout
            assert "2 hosts are kept warm until" in said
            runs += set(launcher.runs.glob("*")) - before
        found = []
        for host in far.hosts:
            (kept,) = [e for e in launcher.events(runs[0], host.name) if e["type"] == records.ZYGOTE_KEPT]
            (adopted,) = [e for e in launcher.events(runs[1], host.name) if e["type"] == records.ZYGOTE_ADOPTED]
            assert (adopted["pid"], adopted["run"]) == (kept["pid"], runs[0].name)
            found.append(kept["pid"])
        said = launcher.run("down", runs[1].name).stdout
        assert said.startswith(f"{runs[1].name} is over; ")
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), "the end of what was kept")
