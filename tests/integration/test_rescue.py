"""What survivors save. The short form of `benchmarks/rescue_proof.py`: kills and a freeze, every bit compared."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from benchmarks.rescue_proof import STEPS_PER_EPOCH, Strike, make_data, make_job, strike, to_the_end, untouched
from worker.contract import records
from worker.contract.states import WorkerExit

from .training import cluster

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]

SEED = 20
EPOCHS = 8
LONGEST_S = 0.3  # from the first step to a strike: three of them are over before the last epoch


@pytest.mark.parametrize(
    ("workers", "blows"),
    [
        pytest.param(2, [(1, False), (0, True), (0, False)], id="2 workers"),
        pytest.param(3, [(0, False)], id="3 workers"),
    ],
)
def test_survivors_save_the_newest_step_bit_for_bit_and_a_run_goes_on_from_it(
    tmp_path: Path, workers: int, blows: list[tuple[int, bool]]
) -> None:
    data, chance = tmp_path / "small.npz", random.Random(SEED)
    make_data(data)
    chain = untouched(tmp_path / "untouched", data, workers, EPOCHS)
    for rank, frozen in blows:
        before = chain.step
        strike(tmp_path / "struck", data, chain, Strike(rank, frozen, chance.uniform(0.0, LONGEST_S)))
        assert before < chain.step < EPOCHS * STEPS_PER_EPOCH
    to_the_end(tmp_path / "struck", data, chain)
    assert chain.ends == 1
    assert max(chain.rescues) < 3, "under 1 s on an idle machine"


def test_a_survivor_that_is_told_of_a_loss_does_not_wait_for_tensorflow_to_notice(tmp_path: Path) -> None:
    data = tmp_path / "small.npz"
    make_data(data)
    with cluster(tmp_path, make_job(data, 100_000)) as pair:
        pair[0].wait_for(records.EPOCH)
        os.kill(pair[1].process.pid, signal.SIGSTOP)  # its connections stay: TensorFlow's heartbeat takes 8 s and more
        frozen = time.monotonic()
        pair[0].send({"type": "peer_lost"})
        assert pair[0].wait() == WorkerExit.RESCUED, pair[0].log
        assert time.monotonic() - frozen < 6, "1.3 s on an idle machine"
    (rescue,) = [record for record in pair[0].told(records.SAVED) if record["why"] == "rescue"]
    assert rescue["step"] >= max(record["step"] for record in pair[0].told(records.STEP))
    (failure,) = pair[0].told(records.FAILURE)
    assert failure["reason"] == "peer"
    assert "says the agent" in failure["message"]
