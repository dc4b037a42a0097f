"""`keep_warm`: a second `up` of a spec takes up what the first has left in memory, and ends with the same bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.harness import Launcher, is_alive, launcher_in, wait_for
from worker.contract import records
from worker.train.datasets import load

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]

STEPS = 20
UP_S = 150.0


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    with launcher_in(tmp_path / "home") as made:
        yield made


def data(path: Path, images: int = STEPS * 16) -> Path:
    whole = load("fashion-mnist-mini")
    x, y = whole.x_train[:images], whole.y_train[:images]
    np.savez(path, x_train=x, y_train=y, x_test=whole.x_test[:64], y_test=whole.y_test[:64])
    return path


def up(launcher: Launcher, spec: Path, *more: str) -> tuple[Path, str]:
    """One whole run: its folder, and what was said."""
    before = set(launcher.runs.glob("*"))
    said = launcher.run("up", str(spec), "--plain", *more, timeout_s=UP_S).stdout
    (run,) = set(launcher.runs.glob("*")) - before
    return run, said


def of(launcher: Launcher, run: Path, type_: str) -> list[dict[str, Any]]:
    return [event for event in launcher.events(run) if event["type"] == type_]


def arrays(launcher: Launcher, run: Path) -> list[str]:
    return [event["arrays"] for event in of(launcher, run, records.CHECKPOINT)]


def test_a_second_up_goes_on_with_what_the_first_has_in_memory_and_edited_data_do_not(
    launcher: Launcher, tmp_path: Path
) -> None:
    npz = data(tmp_path / "data.npz")
    spec = launcher.spec(
        "name: warm\nhosts: [{name: here, local: true, workers: 2}]\n"
        f"train: {{dataset: {{npz: {npz}}}, epochs: 1, batch_size: 16}}\nrestart: {{keep_warm: 10 min}}\n"
    )
    cold, said = up(launcher, spec)
    (kept,) = of(launcher, cold, records.ZYGOTE_KEPT)
    (line,) = [line for line in said.splitlines() if "kept warm" in line]
    assert f"to end that now: launcher down {cold.name}" in line
    rows = launcher.json("ps")
    mine = {row["pid"]: row["kind"] for row in rows if row["run"] == cold.name}
    assert (mine[kept["pid"]], sorted(mine.values())) == ("kept", ["kept", "kept", "warden"])
    assert all(row["minded"] for row in rows if row["run"] == cold.name)

    warm, _ = up(launcher, spec)
    (adopted,) = of(launcher, warm, records.ZYGOTE_ADOPTED)
    assert (adopted["pid"], adopted["start_time"], adopted["run"]) == (kept["pid"], kept["start_time"], cold.name)
    assert [event.get("forked") for event in of(launcher, warm, records.RANK_STARTED)] == [True, True]
    assert arrays(launcher, warm) == arrays(launcher, cold) != []

    os.utime(npz)  # the same bytes, as it happens: it is enough that they may be others
    after, _ = up(launcher, spec)
    (ended,) = of(launcher, after, records.ZYGOTE_ENDED)
    assert ended["reason"] == f"kept warm by {warm.name}, it cannot serve: the data set has changed"
    assert not is_alive(kept["pid"])
    assert arrays(launcher, after) == arrays(launcher, cold)
    assert launcher.run("down", after.name).stdout == f"{after.name} is over; here: not kept warm any more.\n"
    wait_for(lambda: launcher.alive() == [], "the end of what was kept")
