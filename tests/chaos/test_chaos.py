"""Two short histories of real training, struck at random, judged from their files: the short form of `make chaos`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.grounds import Grounds, best_ground, grounds_in, why_none
from tests.chaos.plan import draw
from tests.chaos.trial import Court

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.tensorflow,
    pytest.mark.timeout(420),
    pytest.mark.skipif(bool(why_none(best_ground())), reason=why_none(best_ground())),
]
SHORT = 40  # epochs, at most
HISTORIES = ((1, 5), (1, 8))  # seed and number: one on this machine, one on hosts


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    with grounds_in(tmp_path_factory.mktemp("chaos"), best_ground()) as grounds:
        yield grounds


def test_what_was_struck_at_random_trains_to_the_bits_of_an_untouched_run(grounds: Grounds, tmp_path: Path) -> None:
    told: list[str] = []
    court = Court(grounds, tmp_path / "kept", told.append, longest=SHORT)
    for seed, number in HISTORIES:
        history = draw(seed, number, best_ground(), faults=4)
        assert history.epochs <= SHORT
        trial = court.try_one(history)
        assert trial.problems == [], told
        assert len(trial.course.strikes) >= 2, told
