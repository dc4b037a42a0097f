"""Who is named when workers do not hold the same."""

from __future__ import annotations

import pytest

from worker.train.majority import outliers


@pytest.mark.parametrize(
    ("digests", "named"),
    [
        ([5], []),
        ([5, 5, 5], []),
        ([5, 5, 6], [2]),
        ([6, 5, 5], [0]),
        ([5, 6], [1]),
        ([5, 5, 6, 6], [2, 3]),
        ([6, 5, 5, 6], [1, 2]),
        ([7, 5, 6], [1, 2]),
        ([7, 5, 5, 6, 6], [1, 2, 3, 4]),
    ],
)
def test_the_majority_is_right_and_without_one_the_chief(digests: list[int], named: list[int]) -> None:
    assert outliers(digests) == named
