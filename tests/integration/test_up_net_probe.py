"""Workers that lost each other though none had died: all pairs of hosts are tried again before the next generation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.harness import wait_for
from tests.integration.net_far import net_far_in
from tests.lab.netns import why_no_netns
from worker.contract import records

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

# What a program says whose collective broke; when, says the test.
LOSES_ITS_PEERS = """
import os, time

class UnavailableError(Exception):
    pass

while os.environ["LAUNCHER_GENERATION"] == "1":
    if os.path.exists(os.path.expanduser("~/now")):
        raise UnavailableError("Connection reset by peer")
    time.sleep(0.05)
"""


def test_hosts_that_do_not_reach_each_other_are_named_and_waited_for(tmp_path: Path) -> None:
    with net_far_in(tmp_path, 3) as far:
        up, run = far.trains(far.program(LOSES_ITS_PEERS, extra="restart: {backoff: 0.1 s}\n"))
        far.host("h3").cut(peer=far.host("h2").address)
        for name in ("h1", "h2", "h3"):
            (far.host(name).home / "now").touch()

        def told() -> str:
            remarks = [e["text"] for e in far.launcher.events(run, None) if e["type"] == records.REMARK]
            return next((text for text in remarks if "reach each other" in text), "")

        text = wait_for(told, "the pairs to be tried", 60)
        assert "h2 → h3 (timed out)" in text
        assert "without h3 they would" in text
        assert far.launcher.json("status")["state"] == "restarting"
        far.host("h3").heal()
        assert up.wait(60) == 0, far.told()
        begun = [e["generation"] for e in far.launcher.events(run, None) if e["type"] == records.GENERATION_STARTED]
        assert begun == [1, 2]
        far.gone()
