"""What is wrong with a host or the way to it, as `up` tells it: blocked, with another time of day, rebooted, gone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import wait_for
from tests.integration.net_far import NetFar, net_far_in
from tests.lab.clock import set_wrong
from tests.lab.netns import why_no_netns
from worker.contract.checkpoints import verify

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

SOON = "timeouts: {connect: 2 s, host: 2 s, stop: 2 s}\nrestart: {max: 0}\n"
# Says what it is, and ends as the file says that appears in its home.
WAITS = """\
import os, pathlib, time
print("rank", os.environ["LAUNCHER_RANK"], "runs", flush=True)
end = pathlib.Path.home() / "end"
while not end.exists():
    time.sleep(0.05)
raise SystemExit(int(end.read_text()))
"""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[NetFar]:
    with net_far_in(tmp_path) as one:
        yield one


def end(far: NetFar, host: str, code: int) -> None:
    """Let the program on a host end; returns when its agent has written that down there."""
    half = far.host(host).home / "half"
    half.write_text(str(code))
    half.rename(half.with_name("end"))
    wait_for(lambda: "rank_ended" in (far.there(host) / "events.jsonl").read_text(), f"the end on {host}")


def journal(far: NetFar, run: Path, type_: str) -> list[dict[str, Any]]:
    return [event for event in far.launcher.events(run, None) if event["type"] == type_]


def test_a_blocked_pair_is_named_by_up_with_port_and_rule_and_nothing_is_started(far: NetFar) -> None:
    h1, h2 = far.host("h1"), far.host("h2")
    h2.cut("in", peer=h1.address, port="20000:20099")
    done = far.launcher.run("up", str(far.program(WAITS)), check=3)
    assert f"h1 → h2 at {h2.address}:20" in done.stderr
    assert "timed out" in done.stderr
    assert "let TCP 20000-20099 from h1 through on h2" in done.stderr
    assert "h2 → h1" not in done.stderr
    assert far.left() == []


def test_clocks_an_hour_apart_change_no_time_that_is_told_and_blame_nobody_else(far: NetFar) -> None:
    """Rank 0 fails first, by a clock that is an hour ahead; rank 1 after it, and home hears of both at once."""
    set_wrong(far.host("h1"), 4000)
    spec = far.program(WAITS, extra=SOON)
    (clock,) = [one for one in json.loads(far.launcher.run("check", "--json", str(spec)).stdout)["findings"]
                if one["check"] == "clock" and one["verdict"] != "ok"]  # fmt: skip
    assert "h1: its clock is 1.1 h ahead" in clock["what"]
    view, run = far.trains(spec)
    for name in ("h1", "h2"):
        far.host(name).cut(peer=far.hosts.here)
    wait_for(lambda: far.unreachable() == ["h1", "h2"], "the loss of both")
    end(far, "h1", 3)
    end(far, "h2", 4)
    for name in ("h1", "h2"):
        far.host(name).heal()
    assert view.wait(60) == 1
    told = far.told()
    assert "the clock of h1 is +1.1 h from this machine's" in told
    assert "rank 0 on h1 ended with exit code 3" in told
    (cause,) = journal(far, run, "cause")
    assert (cause["rank"], cause["host"]) == (0, "h1")
    first, then = (far.launcher.events(run, name)[-1]["t"] for name in ("h1", "h2"))
    assert first > then + 3000, "as the hosts themselves believe"


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "to_the_last",
    [False, pytest.param(True, marks=[pytest.mark.long, pytest.mark.timeout(400)])],
    ids=["", "to-the-last"],
)
def test_a_host_that_is_cut_off_for_ever_is_named_and_no_worker_stays_anywhere(far: NetFar, to_the_last: bool) -> None:
    """The survivor saves its newest step and leaves; so does the one that is cut off, and its agent after a while."""
    job = "train: {dataset: fashion-mnist-mini, epochs: 10000, batch_size: 500}\ncheckpoint: {every: 1 h}\n"
    spec = far.spec(job + "timeouts: {connect: 2 s, host: 2 s, stop: 2 s}\nrestart: {per: 10 s}\n", each="threads: 1")
    view, run = far.trains(spec)
    far.host("h2").cut()
    assert view.wait(120) == 1
    (cause,) = journal(far, run, "cause")
    assert cause["host"] == "h2"
    assert "the agent on h2 is gone: it could not be reached for" in far.told()
    assert "failed: h2 has been gone for" in far.told()
    assert "cause: h2: unreachable" in far.told()
    (saved,) = (run / "hosts" / "h1" / "checkpoints").iterdir()
    assert verify(str(saved)) == []
    assert far.left("h1") == []
    assert "rank_ended" in (far.there("h2") / "events.jsonl").read_text()
    assert [one for one in far.left("h2") if sys.executable in one and not one.endswith(" zygote")] == []
    if to_the_last:
        far.gone(timeout_s=150)


def test_a_rebooted_host_is_named_and_nothing_stays_on_the_others(far: NetFar) -> None:
    view, run = far.trains(far.program(WAITS, extra=SOON))
    far.host("h2").reboot()
    assert view.wait(60) == 1
    (cause,) = journal(far, run, "cause")
    assert cause["host"] == "h2"
    told = far.told()
    assert "failed: the agent on h2 is gone: its machine has been started anew" in told
    assert far.left() == []
