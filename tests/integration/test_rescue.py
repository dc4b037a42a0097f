"""The short form of `benchmarks/rescue_proof.py`: kills and a freeze, every bit compared with an untouched run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.rescue_proof import STEPS_PER_EPOCH, Strike, make_data, strike, to_the_end, untouched

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
