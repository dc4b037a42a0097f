"""Which hosts are at work in the next generation, and who is set aside."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from launcher.spec.model import RestartSpec
from launcher.supervise.core.aside import FIRST_S, Aside
from launcher.supervise.core.roster import Roster

ABC = {"a": 1, "b": 1, "c": 1}


def roster(workers: dict[str, int] | None = None, **rules: Any) -> Roster:
    spec = RestartSpec(**rules)
    named = workers or ABC
    return Roster(spec, named, list(named)[: max(1, len(named) - spec.spares)])


def test_without_more_said_every_host_is_needed() -> None:
    assert roster().choose("abc") == ("a", "b", "c")
    assert roster().choose("ac") is None
    assert roster().choose("abc", aside="b") == ("a", "b", "c"), "who is needed is not left aside"


def test_with_min_workers_a_generation_may_be_smaller_but_not_too_small() -> None:
    of_four = roster({"a": 2, "b": 1, "c": 1}, min_workers=2)
    assert of_four.choose("abc") == ("a", "b", "c")
    assert of_four.choose("bc") == ("b", "c"), "the chief's host may be the one that is gone"
    assert of_four.choose("b") is None
    assert of_four.choose("ac", aside="c") == ("a",)
    assert of_four.choose("bc", aside="c") == ("b", "c"), "one that failed is better than none"


def test_a_spare_takes_the_place_of_a_host_and_keeps_it() -> None:
    one_held_back = roster(spares=1)
    assert one_held_back.at_work == ("a", "b")
    assert one_held_back.choose("abc") == ("a", "b")
    assert one_held_back.choose("bc") == ("b", "c")
    one_held_back.begins(("b", "c"))
    assert one_held_back.choose("abc") == ("b", "c"), "the one that came back is the reserve now"
    assert one_held_back.choose("ab") == ("a", "b")


def test_a_host_that_was_set_aside_is_replaced_by_a_spare() -> None:
    assert roster(spares=1).choose("abc", aside="a") == ("b", "c")


def test_who_came_back_is_taken_in_again_unless_the_spec_says_never() -> None:
    for grow, expected in (("at_restart", ("a", "b", "c")), ("never", ("a", "c"))):
        smaller = roster(min_workers=1, grow=grow)
        smaller.begins(("a", "c"))
        assert smaller.choose("abc") == expected
        assert smaller.could_grow("abc") is (grow != "never")
    smaller.begins(("a",))
    assert smaller.choose("bc") == ("b", "c"), "without it nobody could go on"


def test_a_host_that_has_left_is_never_chosen_again() -> None:
    going = roster(spares=1)
    assert going.choose("ac")
    going.leaves("b")
    assert going.choose("abc") == ("a", "c")
    assert not going.choose("ab")
    assert not roster().choose("ac")


@given(
    workers=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    spares=st.integers(0, 6),
    least=st.none() | st.integers(1, 8),
    grow=st.sampled_from(["at_restart", "at_checkpoint", "never"]),
    history=st.lists(st.tuples(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5))), max_size=8),
)
def test_whatever_happens_the_choice_is_as_the_spec_says(
    workers: list[int],
    spares: int,
    least: int | None,
    grow: Any,
    history: list[tuple[set[int], set[int]]],
) -> None:
    named = {f"h{i}": count for i, count in enumerate(workers)}
    rules = RestartSpec(min_workers=least, spares=spares, grow=grow)
    places = max(1, len(named) - spares)
    chosen_from = Roster(rules, named, list(named)[:places])
    for usable, aside in history:
        there = {host for i, host in enumerate(named) if i in usable}
        chosen = chosen_from.choose(there, {f"h{i}" for i in aside})
        most = sum(sorted((named[host] for host in there), reverse=True)[:places])
        assert (chosen is not None) == (len(there) >= places if least is None else most >= least)
        if chosen is None:
            continue
        assert set(chosen) <= there
        assert list(chosen) == [host for host in named if host in chosen]
        assert len(chosen) <= places
        assert sum(named[host] for host in chosen) >= (least or 1)
        assert least is not None or len(chosen) == places
        chosen_from.begins(chosen)


def test_the_second_failure_of_a_host_sets_it_aside_and_each_further_one_for_twice_as_long() -> None:
    aside = Aside(per=3600.0)
    assert aside.failed("b", 0.0) == 0.0
    assert aside.failed("c", 0.0) == 0.0
    assert aside.failed("b", 100.0) == FIRST_S
    assert aside.now(100.0 + FIRST_S - 1) == {"b"}
    assert aside.back_at(100.0) == 100.0 + FIRST_S
    assert aside.now(100.0 + FIRST_S) == frozenset()
    assert [aside.failed("b", 200.0) for _ in range(8)] == [120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert aside.now(200.0) == {"b"}, "and nobody else"


def test_old_failures_are_forgotten() -> None:
    aside = Aside(per=600.0)
    aside.failed("b", 0.0)
    assert aside.failed("b", 700.0) == 0.0
    assert aside.failed("b", 701.0) == FIRST_S


def test_where_a_host_could_not_even_be_prepared_it_is_set_aside_at_once() -> None:
    assert Aside(per=3600.0).failed("b", 0.0, at_once=True) == FIRST_S


def test_a_later_coordinator_sets_aside_whom_the_one_before_would_have() -> None:
    before, after = Aside(per=3600.0), Aside(per=3600.0)
    told = [(0.0, "b"), (10.0, ""), (50.0, "b")]
    for at, host in told:
        if host:
            before.failed(host, at)
    after.recall(told)
    assert after.now(60.0) == before.now(60.0) == {"b"}
