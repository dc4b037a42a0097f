"""An uplink that is slower than what is published: training, logs and heartbeats do not notice it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.net_far import NetFar, net_far_in
from tests.lab.netns import why_no_netns
from worker.contract.checkpoints import verify

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

KEEP = 2
# As the built-in CNN, with a larger layer: a checkpoint has 3 MB.
LARGE = """\
import keras
from keras import layers
def make(input_shape, classes):
    return keras.Sequential([
        keras.Input(input_shape),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"), layers.Flatten(),
        layers.Dense(320, activation="relu"), layers.Dense(classes),
    ])
"""


@dataclass(frozen=True)
class Form:
    """How slow, how often, and for how long. The limit comes and goes: in blocks 1, 3, 5 and 7 of 7 it is there."""

    rate: str
    every: str
    epochs: int
    model: str
    ratio: float  # of images/s, at least


SHORT = Form("2mbit", "1 s", 28, "cnn", 0.6)
LONG = Form("1mbit", "10 s", 210, "large:make", 0.8)


class Watch:
    """Makes the uplink slow, and fast again, and looks at both ends of it meanwhile."""

    def __init__(self, far: NetFar, run: Path, form: Form) -> None:
        self._far, self._run, self._form = far, run, form
        self._there = far.there("h1")
        self._slow: bool | None = None
        self._of: dict[int, bool | None] = {}  # epoch → whether it was slow; None: some of it
        self._written: list[tuple[float, int]] = []  # when the log there had how many bytes that are not here
        self.lag_s = 0.0
        self.came: set[str] = set()
        self.most_there = 0

    def look(self) -> None:
        events = self._far.launcher.events(self._run, "h1")
        epoch = 1 + sum(event["type"] == "rank_epoch" for event in events)
        slow = 7 * (epoch - 1) // self._form.epochs % 2 == 0
        if slow != self._slow:
            self._far.hosts.slow_home(self._form.rate if slow else "")
            self._slow, self._of[epoch] = slow, None
        self._of.setdefault(epoch, slow)
        self._look_at_logs()
        self.came |= {path.name for path in (self._run / "hosts" / "h1" / "checkpoints").glob("g*")}
        self.most_there = max(self.most_there, len(list((self._there / "checkpoints").glob("*g1-s*"))))

    def speeds(self, events: list[dict[str, Any]], slow: bool) -> list[float]:
        """Images/s of the epochs that were wholly so, the first two left out."""
        told = {event["epoch"]: event["images_per_second"] for event in events if event["type"] == "rank_epoch"}
        return [speed for epoch, speed in told.items() if epoch > 2 and self._of.get(epoch) is slow]

    def _look_at_logs(self) -> None:
        now, name = time.monotonic(), "g1/rank0.progress.jsonl"
        home = self._run / "hosts" / "h1" / name
        size = (self._there / name).stat().st_size
        if not self._written or self._written[-1][1] < size:
            self._written.append((now, size))
        here = home.stat().st_size if home.exists() else 0
        while self._written and self._written[0][1] <= here:
            self._written.pop(0)
        if self._written:
            self.lag_s = max(self.lag_s, now - self._written[0][0])


@pytest.fixture
def far(tmp_path: Path) -> Iterator[NetFar]:
    with net_far_in(tmp_path) as one:
        yield one


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, id="long", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_a_slow_uplink_slows_no_training_and_delays_no_log_and_the_newest_comes_home(far: NetFar, form: Form) -> None:
    spec = far.spec(
        f"train: {{model: '{form.model}', dataset: fashion-mnist-mini, epochs: {form.epochs}, batch_size: 500}}\n"
        f"checkpoint: {{every: {form.every}, keep: {KEEP}, home: newest, copies: 1}}\ntimeouts: {{host: 3 s}}\n",
        each="threads: 1",
    )
    (spec.parent / "large.py").write_text(LARGE)
    view, run = far.trains(spec)
    watch = Watch(far, run, form)
    while view.poll() is None:
        watch.look()
        time.sleep(0.05)
    assert view.returncode == 0, far.told()

    home, there, events = run / "hosts" / "h1", far.there("h1"), far.launcher.events(run, "h1")
    at_slow, at_fast = (statistics.median(watch.speeds(events, slow)) for slow in (True, False))
    published = [event["name"] for event in events if event["type"] == "checkpoint"]
    speeds = f"images/s: {at_slow:.0f} with the limit, {at_fast:.0f} without"
    print(f"{speeds}; logs at most {watch.lag_s:.2f} s late; {len(watch.came)} of {len(published)} checkpoints home")
    assert at_slow >= form.ratio * at_fast
    assert watch.lag_s < 3.0, "logs wait for no checkpoint"
    assert not [event for event in far.launcher.events(run, None) if event["type"] == "link_lost"], "nor do heartbeats"

    assert len(watch.came) < 0.9 * len(published), "what was superseded stayed there"
    assert watch.most_there <= KEEP + 2, "one is held while it is fetched, and one is new before another is pruned"
    assert verify(str(home / "checkpoints" / published[-1])) == []
    assert (home / "output" / "model.keras").read_bytes() == (there / "output" / "model.keras").read_bytes()
