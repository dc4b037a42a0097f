"""The fewest hosts that cover every pair of hosts that do not reach each other."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.supervise.core.cover import smallest_cover

HOSTS = [f"h{number}" for number in range(9)]


@pytest.mark.parametrize(
    ("failed", "left_out"),
    [
        ([], ()),
        ([("h0", "h1")], ("h1",)),  # the chief's host stays
        ([("h2", "h0"), ("h0", "h1")], ("h0",)),
        ([("h3", other) for other in HOSTS if other != "h3"], ("h3",)),  # its cable is pulled
        ([("h0", "h1"), ("h2", "h3")], ("h1", "h3")),
        ([("h4", "h4")], ("h4",)),
        ([("h0", "elsewhere")], ()),
        # A network in two halves: the smaller one goes, of equal ones the later.
        ([(one, other) for one in HOSTS[:2] for other in HOSTS[2:]], ("h0", "h1")),
        ([(one, other) for one in HOSTS[:3] for other in HOSTS[3:6]], ("h3", "h4", "h5")),
    ],
)
def test_who_is_left_out(failed: list[tuple[str, str]], left_out: tuple[str, ...]) -> None:
    assert smallest_cover(failed, HOSTS) == left_out
    assert smallest_cover([(other, one) for one, other in reversed(failed)], HOSTS) == left_out


@given(st.lists(st.tuples(st.sampled_from(HOSTS), st.sampled_from(HOSTS)), max_size=16))
def test_it_is_the_smallest_and_of_several_the_one_that_keeps_the_earlier_hosts(failed: list[tuple[str, str]]) -> None:
    found = smallest_cover(failed, HOSTS)
    of_size = next(
        covers
        for size in range(len(HOSTS) + 1)
        if (
            covers := [
                chosen
                for chosen in itertools.combinations(range(len(HOSTS)), size)
                if all({HOSTS.index(one), HOSTS.index(other)} & set(chosen) for one, other in failed)
            ]
        )
    )
    best = max(of_size, key=lambda chosen: sorted(chosen, reverse=True))
    assert found == tuple(HOSTS[number] for number in sorted(best))


@pytest.mark.parametrize("share", [0.03, 0.1, 0.9])
def test_sixty_four_hosts_take_no_time_whatever_is_broken(share: float) -> None:
    hosts = [f"h{number}" for number in range(64)]
    draw = random.Random(share)
    failed = [pair for pair in itertools.combinations(hosts, 2) if draw.random() < share]
    began = time.process_time()
    left_out = smallest_cover(failed, hosts)
    assert time.process_time() - began < 30
    assert all({one, other} & set(left_out) for one, other in failed)
