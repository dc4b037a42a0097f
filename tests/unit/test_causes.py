"""Which of several ends was the cause: by times, which are known within bounds, then by what the ends say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.supervise.clocks import UNKNOWN_S, Clocks, Offset, as_record, of_journal
from launcher.supervise.core.causes import Kind, RankEnd, about, explain, kind_of, rank_end, root_cause
from worker.contract import records

VALUE_ERROR = "Traceback (most recent call last):\nValueError: row # is no image"
UNAVAILABLE = "Traceback (most recent call last):\ntensorflow.errors_impl.UnavailableError: Connection reset by peer"


def end(rank: int, t: float, host: str = "", state: str = "failed", **more: Any) -> RankEnd:
    how = {} if "signal" in more else {"exit_code": more.pop("exit_code", 1)}
    return RankEnd(rank, host or f"h{rank}", t, state, **how, **more)


def killed(rank: int, t: float, **more: Any) -> RankEnd:
    return end(rank, t, signal="SIGKILL", **more)


def peer(rank: int, t: float, **more: Any) -> RankEnd:
    return end(rank, t, failure={"reason": "peer", "message": "a worker is gone"}, **more)


@pytest.mark.parametrize(
    ("ends", "rank", "also"),
    [
        # A victim is never named while another died of its own accord, whoever was seen first.
        ([peer(0, 10.0), killed(1, 12.0)], 1, []),
        ([end(0, 10.0, trace=UNAVAILABLE), end(1, 12.0, trace=VALUE_ERROR)], 1, []),
        ([end(0, 10.0, trace=UNAVAILABLE), end(1, 12.0)], 1, []),
        ([end(0, 10.0, raised="UnavailableError: gone"), end(1, 12.0, raised="ValueError: no")], 1, []),
        # Of those, the first, where the times are certain.
        ([killed(0, 10.0), end(1, 11.0, trace=VALUE_ERROR)], 0, []),
        ([end(0, 10.0), killed(1, 11.0)], 0, []),
        # Where they overlap, the kind: a signal or an own traceback before an exit without a word.
        ([end(0, 10.0), killed(1, 10.05)], 1, []),
        ([end(0, 10.0, doubt_s=2.0), killed(1, 11.0)], 1, []),
        ([end(0, 10.0), end(1, 10.1, trace=VALUE_ERROR)], 1, []),
        # And what that leaves is undetermined.
        ([killed(0, 10.0), killed(1, 10.05)], 0, [1]),
        ([killed(0, 10.0, doubt_s=2.0), killed(1, 11.0)], 0, [1]),
        ([killed(0, 10.0, doubt_s=0.01), killed(1, 11.0)], 0, []),
        # One agent's word on the order of what it saw holds, but for what it found in one turn.
        ([end(0, 10.0, "a"), killed(1, 10.2, host="a")], 0, []),
        ([end(0, 10.0, "a"), killed(1, 10.01, host="a")], 1, []),
        # Ranks that were ended, stopped or left after a rescue are none.
        ([end(0, 9.0, state="ended"), end(1, 9.5, state="rescued"), killed(2, 10.0)], 2, []),
    ],
)
def test_the_cause(ends: list[RankEnd], rank: int, also: list[int]) -> None:
    for order in (ends, ends[::-1]):
        found = root_cause(order)
        assert found is not None
        assert (found.end.rank, [one.rank for one in found.also]) == (rank, also)


def test_a_failure_counts_from_when_the_rank_told_of_it_and_not_from_when_it_had_left() -> None:
    told = {"reason": "error", "message": "no", "t": 10.0}
    assert rank_end("a", {"rank": 0, "t": 14.0, "state": "failed", "exit_code": 1}, told).t == 10.0


def test_the_text_says_when_it_is_undetermined() -> None:
    found = root_cause([killed(0, 10.0), killed(1, 10.05), end(2, 10.0, state="rescued")])
    assert found is not None
    text, _ = explain(found)
    assert text == (
        "rank 0 on h0 was killed by SIGKILL (which was the first is undetermined: at the same moment rank 1 on h1 was "
        "killed by SIGKILL)"
    )
    assert found.error == "", "a signal is no error of the program's own"


def test_the_same_error_of_all_ranks_is_one_cause_and_known_again_whoever_was_first() -> None:
    ends = [end(rank, 10.0 + rank / 100, trace=VALUE_ERROR) for rank in range(3)]
    found, later = root_cause(ends), root_cause([replace(one, t=20.0 - one.rank / 100) for one in ends])
    assert found is not None
    assert later is not None
    assert found.error == later.error == f"1 {VALUE_ERROR}"
    assert explain(found)[0] == "rank 0 on h0 ended with exit code 1; so did ranks 1, 2"


def test_two_errors_at_once_are_known_again_as_two() -> None:
    one, other = end(0, 10.0, trace=VALUE_ERROR), end(1, 10.0, trace=VALUE_ERROR.replace("row", "column"))
    found, later = root_cause([one, other]), root_cause([replace(one, t=10.1), other])
    assert found is not None
    assert later is not None
    assert found.error == later.error
    assert "row" in found.error
    assert "column" in found.error


def test_a_kill_is_explained_by_the_kernels_records_or_not_at_all() -> None:
    known = killed(1, 10.0, oom="its control group counted it", memory="15.9 of 16.0 GB")
    found = root_cause([known])
    assert found is not None
    text, hint = explain(found)
    assert text == "rank 1 on h1 was killed by SIGKILL: out of memory (its control group counted it)"
    assert "batch_size" in hint
    unknown = killed(1, 10.0, memory="3.1 of 16.0 GB")
    assert about(unknown) == "who sent it is not known: it was nothing of this run; memory was at 3.1 of 16.0 GB"
    assert about(end(0, 1.0, trace=VALUE_ERROR)) == ""


ENDS = st.lists(
    st.builds(
        lambda rank, t, doubt, state, how: RankEnd(rank, f"h{rank % 3}", t, state, doubt_s=doubt, **how),
        st.integers(0, 8),
        st.floats(0, 20),
        st.floats(0, 3),
        st.sampled_from(["failed", "failed", "rescued", "ended", "stopped", "finished"]),
        st.sampled_from(
            [
                {"signal": "SIGKILL"},
                {"exit_code": 1},
                {"exit_code": 1, "trace": VALUE_ERROR},
                {"exit_code": 1, "trace": UNAVAILABLE},
                {"exit_code": 81, "failure": {"reason": "peer"}},
            ]
        ),
    ),
    max_size=9,
    unique_by=lambda one: one.rank,
)


@given(ENDS, st.randoms(use_true_random=False))
def test_whatever_the_order_of_the_news_the_cause_is_the_same_and_nothing_is_certain_to_have_come_before_it(
    ends: list[RankEnd], random: Any
) -> None:
    found = root_cause(ends)
    shuffled = random.sample(ends, len(ends))
    assert root_cause(shuffled) == found
    failed = [one for one in ends if one.state == "failed"]
    assert (found is None) == (not failed and not any(one.state == "rescued" for one in ends))
    if found is None:
        return
    own = [one for one in failed if kind_of(one) < Kind.VICTIM]
    for one in found.all:
        assert one.state == ("failed" if failed else "rescued")
        assert not own or kind_of(one) == kind_of(found.end) < Kind.VICTIM
        assert not any(other.latest < one.earliest for other in own if other.host != one.host)
    explain(found)


@given(ENDS, st.floats(0, 5))
def test_more_doubt_never_makes_another_one_certain(ends: list[RankEnd], more: float) -> None:
    found, doubtful = root_cause(ends), root_cause([replace(one, doubt_s=one.doubt_s + more) for one in ends])
    if found is not None and doubtful is not None and kind_of(doubtful.end) == kind_of(found.end):
        assert {one.rank for one in found.all} <= {one.rank for one in doubtful.all}


# Clocks.


def test_what_a_host_tells_is_set_right_and_in_doubt_by_what_its_clock_may_be_off() -> None:
    clocks = Clocks({"a": Offset(0.5, 0.002)}, frozenset({"a", "b"}), clock=lambda: 1000.0, since=0.0)
    assert clocks.by_ours("a", {"t": 100.0}) == {"t": 99.5, "doubt_s": 0.102}
    assert clocks.by_ours("b", {"t": 100.0})["doubt_s"] > UNKNOWN_S
    assert clocks.by_ours("here", {"t": 100.0}) == {"t": 100.0}


def test_a_later_coordinator_finds_the_offsets_in_the_journal() -> None:
    found = {"a": Offset(0.5, 0.002)}
    assert of_journal([{"type": records.COORDINATOR_STARTED, "offsets": as_record(found)}]) == found
    assert of_journal([{"type": records.COORDINATOR_STARTED, "offsets": {"a": "x", "b": [1]}}]) == {}
