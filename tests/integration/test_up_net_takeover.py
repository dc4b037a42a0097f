"""A run is taken over while one of its hosts, or all of them, cannot be reached."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import is_alive, wait_for
from tests.integration.net_far import NetFar, net_far_in
from tests.lab.netns import why_no_netns
from worker.contract import records

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

WAITS = """\
import os, time
print("life", os.environ["LAUNCHER_GENERATION"], flush=True)
while not os.path.exists(os.path.expanduser("~/go")):
    time.sleep(0.02)
"""
SOON = "timeouts: {connect: 2 s, host: 2 s, stop: 1 s}\n"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[NetFar]:
    with net_far_in(tmp_path) as one:
        yield one


def test_a_host_that_is_cut_off_at_the_take_over_is_a_lost_link_and_goes_on_when_it_is_back(far: NetFar) -> None:
    spec = far.program(WAITS, extra=SOON)
    view, run = far.trains(spec)
    pid = next(e for e in far.launcher.events(run, None) if e["type"] == records.COORDINATOR_STARTED)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), "the coordinator's death")
    far.host("h1").cut()
    far.host("h2").cut()
    none = far.launcher.run("attach", "--plain", check=3)
    assert "cannot reach 2 hosts" in none.stderr
    assert "training goes on under its lease" in none.stderr
    far.host("h1").heal()
    attached = far.launcher.start("attach", "--plain")
    wait_for(lambda: far.launcher.json("status")["term"] == 2, "another coordinator")
    (far.host("h1").home / "go").touch()
    far.host("h2").heal()
    (far.host("h2").home / "go").touch()
    assert attached.wait(40) == 0
    begun = [e for e in far.launcher.events(run, None) if e["type"] == records.GENERATION_STARTED]
    assert len(begun) == 1
    log = "hosts/h2/g1/rank1.log"
    assert (run / log).read_text() == "life 1\n"
    assert view.wait(20) == 0, "whoever looked on sees its end"
    far.gone()
