"""A checkpoint goes on under another number of workers, and under another split of their devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.rescue_proof import STEPS_PER_EPOCH, make_data, make_job
from worker.contract import records
from worker.contract.states import WorkerExit
from worker.train.checkpoint import read

from .training import WORKER, Cluster, cluster

pytestmark = pytest.mark.tensorflow

HERE = Path(__file__).parent
SEEING = (str(HERE / "seeing.py"), str(WORKER), "train")
SPLIT = (str(HERE / "split_cpu.py"), *SEEING)
STEP = STEPS_PER_EPOCH - 3  # in mid-epoch


def curve(trained: Cluster) -> list[list[float]]:
    keys = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    return [[record[key] for key in keys] for record in trained[0].told(records.EPOCH)]


def test_weights_and_slots_are_what_was_saved_and_the_curve_is_that_of_an_untouched_run(tmp_path: Path) -> None:
    data = tmp_path / "small.npz"
    make_data(data)
    # Not with Adam, which makes much of the last bit of a gradient that is nearly nothing.
    optimizer = {"name": "sgd", "momentum": 0.9}
    job = {**make_job(data, 2, every_steps=STEP), "optimizer": optimizer, "learning_rate": 0.02}
    with cluster(tmp_path / "two", job) as two:
        assert two.wait() == [WorkerExit.DONE] * 2, two[0].log
    start = two[0].checkpoints / f"g1-s{STEP}"
    saved = read(str(start)).arrays
    slots = [name for name in saved if name.startswith("optimizer/") and saved[name].ndim]
    assert len(slots) == len([name for name in saved if name.startswith("model/")]), "a momentum for each weight"
    assert all(np.any(saved[name]) for name in slots)
    with (
        cluster(tmp_path / "one", job, workers=1, generation=2, resume=start, line=SEEING) as one,
        cluster(tmp_path / "three", job, workers=3, generation=2, resume=start, line=SEEING) as three,
        cluster(tmp_path / "four", job, workers=2, generation=2, resume=start, line=SPLIT) as four,
    ):
        assert one.wait() + three.wait() + four.wait() == [WorkerExit.DONE] * 6, three[0].log
    for resumed, change in ((one, "workers: 2 → 1"), (three, "workers: 2 → 3"), (four, "replicas: 2 → 4")):
        for rank in resumed.ranks:
            with np.load(rank.folder / "output" / "restored.npz") as held:
                assert sorted(held.files) == sorted(saved)
                assert [name for name in saved if held[name].tobytes() != saved[name].tobytes()] == []
        np.testing.assert_allclose(curve(resumed), curve(two), rtol=1e-5)
        assert change in resumed[0].log
