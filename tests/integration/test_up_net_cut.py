"""Links that are cut while a checkpoint is on its way home: nobody trains any slower, and nothing is missing."""

from __future__ import annotations

import filecmp
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import wait_for
from tests.integration.net_far import NetFar, net_far_in
from tests.lab.netns import Direction, why_no_netns
from worker.contract.checkpoints import verify

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

JOB = """\
train: {dataset: fashion-mnist-mini, epochs: 10000, batch_size: 500}
checkpoint: {every: 2 s, keep: 3}
"""
SOON = "timeouts: {connect: 2 s, host: 4 s, stall: 60 s}\n"  # a beat may wait for a second in a full line
Cut = dict[str, Direction]
BOTH_WAYS: Cut = {"h1": "both"}
ONE_WAY: Cut = {"h1": "out", "h2": "in"}  # what a host sends; and, at the same time, what another one is sent
UPLINK = "3mbit"  # a checkpoint has 1.1 MB: some seconds


class Halfway:
    """A checkpoint of a host's that is on its way home."""

    def __init__(self, run: Path, host: str) -> None:
        self._home = run / "hosts" / host
        self.name, self.bytes = wait_for(self._begun, f"a checkpoint of {host} that is half home", 60)

    def _begun(self) -> tuple[str, int] | None:
        for arrays in (self._home / ".gather" / "coming").glob("g*/arrays.npz"):
            if (size := _size(arrays)) > 50_000:
                return arrays.parent.name, size
        return None

    @property
    def now(self) -> int:
        """How much of it is here."""
        return _size(self._home / ".gather" / "coming" / self.name / "arrays.npz")

    @property
    def whole(self) -> bool:
        return (self._home / "checkpoints" / self.name).exists()

    def arrives(self, timeout_s: float) -> None:
        """It comes home whole, and nothing of it a second time; or another host has brought a newer one meanwhile."""
        least = self.now

        def there() -> bool:
            now = self.now
            assert now >= least or self.whole or not now, "begun anew"
            return self.whole or self.overtaken

        wait_for(there, f"the rest of {self.name}", timeout_s)
        problems = verify(str(self._home / "checkpoints" / self.name))
        assert problems == [] or not self.whole, "a newer one may have taken its place meanwhile"

    @property
    def overtaken(self) -> bool:
        """Whether another host has brought a newer one: only its own newer ones wait for one that was begun."""
        others = [host for host in self._home.parent.iterdir() if host != self._home]
        return any(_step(one.name) > _step(self.name) for host in others for one in host.glob("checkpoints/g*"))


@pytest.fixture
def far(tmp_path: Path) -> Iterator[NetFar]:
    with net_far_in(tmp_path) as one:
        yield one


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("seconds", "cuts", "timeouts"),
    [
        pytest.param(0, [BOTH_WAYS, ONE_WAY], SOON, id="until-it-is-told"),
        pytest.param(30, [BOTH_WAYS, ONE_WAY], "", marks=[pytest.mark.long, pytest.mark.timeout(400)], id="30s"),
        pytest.param(300, [BOTH_WAYS], "", marks=[pytest.mark.long, pytest.mark.timeout(600)], id="5min"),
        pytest.param(300, [ONE_WAY], "", marks=[pytest.mark.long, pytest.mark.timeout(600)], id="5min-one-way"),
    ],
)
def test_a_cut_in_the_middle_of_a_checkpoint_costs_nothing(
    far: NetFar, seconds: float, cuts: list[Cut], timeouts: str
) -> None:
    spec = far.spec(JOB + timeouts, each="threads: 1")
    view, run = far.trains(spec)
    far.hosts.slow_home(UPLINK)
    for cut in cuts:
        _cut(far, run, cut, seconds)
    far.hosts.slow_home()
    far.launcher.run("down", timeout_s=90)
    assert view.wait(60) == 130
    told = [(event["type"], event["host"]) for event in far.launcher.events(run, None) if "link_" in event["type"]]
    assert sorted(told) == sorted(
        (kind, host) for cut in cuts for host in cut for kind in ("link_lost", "link_back")
    ), "told once each"
    for rank, host in enumerate(("h1", "h2")):
        _same(run / "hosts" / host, far.there(host), rank)
    _newest_is_home(far, run)
    # Whoever served a connection that was cut leaves when nobody has said a word for two minutes.
    far.gone(timeout_s=150 if seconds > 60 else 30)


def _cut(far: NetFar, run: Path, directions: Cut, seconds: float) -> None:
    """From this machine only: the hosts still reach each other."""
    halfway = {}
    for name, direction in directions.items():
        halfway[name] = Halfway(run, name)
        far.host(name).cut(direction, peer=far.hosts.here)
    began = time.monotonic()
    wait_for(lambda: far.unreachable() == sorted(directions), "the loss to be told", 60)
    steps = _steps(far)
    wait_for(lambda: all(now > then + 20 for now, then in zip(_steps(far), steps, strict=True)), "steps there", 60)
    assert far.launcher.json("status")["state"] == "training"
    wait_for(lambda: time.monotonic() - began > seconds, "the end of the cut", seconds + 60)
    assert not any(one.whole for one in halfway.values()), "cut in the middle"
    for name in directions:
        far.host(name).heal()
    wait_for(lambda: not far.unreachable(), "the links' return", 60)
    for one in halfway.values():
        one.arrives(90)


def _steps(far: NetFar) -> list[int]:
    """How many lines the ranks have written of their progress, on the hosts themselves."""
    return [
        (far.there(host) / "g1" / f"rank{rank}.progress.jsonl").read_bytes().count(b"\n")
        for rank, host in enumerate(("h1", "h2"))
    ]


def _same(home: Path, there: Path, rank: int) -> None:
    for name in ("events.jsonl", "agent.log", f"g1/rank{rank}.log", f"g1/rank{rank}.progress.jsonl"):
        if (there / name).exists():
            assert filecmp.cmp(there / name, home / name, shallow=False), name


def _newest_is_home(far: NetFar, run: Path) -> None:
    """One copy of the newest checkpoint that any host has published, whichever host brought it."""
    published = {host: (far.there(host) / "checkpoints") for host in ("h1", "h2")}
    newest = max((one.name for folder in published.values() for one in folder.glob("g*")), key=_step)
    homes = {host: run / "hosts" / host / "checkpoints" / newest for host in published}
    came = [host for host, home in homes.items() if home.exists()]
    assert came, f"{newest} is home"
    for host in came:
        assert verify(str(homes[host])) == []
        for file in homes[host].iterdir():
            assert filecmp.cmp(published[host] / newest / file.name, file, shallow=False), file
    for folder in published.values():
        assert not list(folder.glob(".held-*")), "nothing is held any more"


def _step(name: str) -> int:
    return int(name.partition("-s")[2])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
