"""Which checkpoints belong to the history that a run goes on with."""

from __future__ import annotations

from launcher.runs.lineage import limits

INF = float("inf")


def test_without_a_restart_everything_of_the_one_generation_counts() -> None:
    assert limits({1: ""}, {1}) == {1: INF}


def test_what_was_done_beyond_the_step_that_the_next_generation_began_from_does_not_count() -> None:
    assert limits({1: "", 2: "g1-s300"}, {1, 2}) == {2: INF, 1: 300}


def test_a_generation_that_left_no_checkpoint_is_as_if_it_had_never_been() -> None:
    assert limits({1: "", 2: "g1-s300"}, {1}) == {1: INF}


def test_a_generation_that_was_skipped_does_not_count_at_all() -> None:
    generations = {1: "", 2: "g1-s300", 3: "g1-s200"}
    assert limits(generations, {1, 2, 3}) == {3: INF, 1: 200}


def test_a_start_from_the_beginning_leaves_everything_behind() -> None:
    assert limits({1: "", 2: ""}, {1, 2}) == {2: INF}


def test_journals_that_lead_in_a_circle_end() -> None:
    assert limits({1: "g2-s5", 2: "g1-s9"}, {1, 2}) == {2: INF, 1: 9}
