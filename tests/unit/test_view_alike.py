"""Lines that several ranks print alike: one on the screen, and nothing lost or moved."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from launcher.view.alike import folded
from launcher.view.lines import LogLine, prefix

# As four ranks of a tutorial's script on two hosts print it within one look at their logs.
COMMON = (
    "Epoch 1/3",
    "WARNING:tensorflow:From train.py:12: The name tf.losses is deprecated.",
    "70/70 - 3s - loss: 1.0980 - accuracy: 0.6215",
    "Epoch 2/3",
)


def printed(*ranks: Sequence[str], generation: int = 1) -> list[LogLine]:
    """What each rank printed; two ranks on each host."""
    return [LogLine(generation, rank, f"h{1 + rank // 2}", text) for rank, texts in enumerate(ranks) for text in texts]


def shown(lines: Sequence[LogLine]) -> list[str]:
    return [f"{prefix(line)} {line.text}" for line in folded(lines)]


def test_what_all_ranks_print_is_one_line_with_all_of_them() -> None:
    assert shown(printed(*[COMMON] * 4)) == [f"[r0-r3] {text}" for text in COMMON]
    assert shown(printed(*[COMMON] * 2, generation=2)) == [f"[r0-r1 h1 g2] {text}" for text in COMMON]


def test_a_ranks_own_line_stands_where_it_printed_it() -> None:
    first, second, third = ("a", "b", "c"), ("a", "mine", "c"), ("a", "b")
    assert shown(printed(first, second, third)) == ["[r0-r2] a", "[r0,r2] b", "[r1 h1] mine", "[r0-r1 h1] c"]


def test_lines_that_nobody_else_prints_are_as_they_were() -> None:
    lines = printed(("a", "b"), ("c", "d"), ("e",))
    assert folded(lines) == lines


def test_a_rank_that_repeats_itself_is_not_folded_with_itself() -> None:
    assert shown(printed(("a", "a"))) == ["[r0 h1] a", "[r0 h1] a"]
    assert shown(printed(("a", "a"), ("a",))) == ["[r0-r1 h1] a", "[r0 h1] a"]


def test_the_same_words_in_another_generation_are_other_lines() -> None:
    lines = [*printed(("a",)), *printed(("a",), ("a",), generation=2)]
    assert shown(lines) == ["[r0 h1] a", "[r0-r1 h1 g2] a"]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=8), min_size=1, max_size=5))
def test_every_rank_has_all_of_its_lines_in_its_own_order(ranks: list[list[str]]) -> None:
    found = folded(printed(*ranks))
    for rank, texts in enumerate(ranks):
        mine = [line.text for line in found if rank in (line.rank, *(other for other, _ in line.others))]
        assert mine == texts
