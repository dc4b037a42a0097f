"""Whether a failure is answered with another generation."""

from __future__ import annotations

import pytest

from launcher.spec.model import RestartSpec
from launcher.supervise.core.policy import Again, Enough, Failure, Policy, Signature

HOUR = 3600.0


def policy(most: int = 3, per: float = HOUR, backoff: float = 1.0) -> Policy:
    return Policy(RestartSpec(most, per, backoff), jitter=lambda: 1.0)


def failure(*, progressed: bool = True, text: str = "", step: int | None = None) -> Failure:
    return Failure("rank 1 on b was killed", progressed, Signature(text, step) if text else None)


def test_one_failure_a_day_is_answered_for_a_month() -> None:
    subject = policy()
    answers = [subject.after(failure(), day * 24 * HOUR) for day in range(30)]
    assert answers == [Again(0.0)] * 30


def test_more_failures_than_max_within_the_window_are_enough() -> None:
    subject = policy()
    answers = [subject.after(failure(), at) for at in (0.0, 100.0, 200.0, 300.0)]
    assert answers[:3] == [Again(0.0)] * 3
    assert isinstance(answers[3], Enough)
    assert "4 times within 1 h" in answers[3].why
    assert "restart.max is 3" in answers[3].why
    assert not answers[3].faulty


def test_a_generation_without_progress_counts_twice() -> None:
    subject = policy()
    assert subject.after(failure(progressed=False), 0.0) == Again(1.0)
    answer = subject.after(failure(progressed=False), 10.0)
    assert isinstance(answer, Enough)
    assert "without progress" in answer.why


def test_the_pause_doubles_without_progress_and_is_none_after_some() -> None:
    subject = policy(most=100, backoff=0.5)
    pauses = [subject.after(failure(progressed=False), float(at)) for at in range(4)]
    assert pauses == [Again(0.5), Again(1.0), Again(2.0), Again(4.0)]
    assert subject.after(failure(), 5.0) == Again(0.0)
    assert subject.after(failure(progressed=False), 6.0) == Again(0.5)


def test_a_pause_has_jitter_and_a_limit() -> None:
    subject = Policy(RestartSpec(1000, HOUR, 1.0))
    answers = [subject.after(failure(progressed=False), float(at)) for at in range(30)]
    pauses = [answer.pause_s for answer in answers if isinstance(answer, Again)]
    assert len(set(pauses)) == 30
    assert 45 <= pauses[-1] <= 75


def test_the_same_error_at_the_same_step_twice_is_a_bug_of_the_program() -> None:
    subject = policy()
    assert isinstance(subject.after(failure(text="ValueError: row 17", step=40), 0.0), Again)
    answer = subject.after(failure(text="ValueError: row 17", step=40), 60.0)
    assert isinstance(answer, Enough)
    assert answer.faulty
    assert "step 40" in answer.why


@pytest.mark.parametrize(
    ("text", "step"), [("ValueError: row 18", 40), ("ValueError: row 17", 41)], ids=["another error", "another step"]
)
def test_another_error_or_another_step_is_no_repetition(text: str, step: int) -> None:
    subject = policy()
    subject.after(failure(text="ValueError: row 17", step=40), 0.0)
    assert isinstance(subject.after(failure(text=text, step=step), 60.0), Again)


def test_two_kills_at_the_same_step_are_no_bug_of_the_program() -> None:
    subject = policy()
    assert [subject.after(failure(), at) for at in (0.0, 60.0)] == [Again(0.0)] * 2


def test_with_max_0_nothing_is_begun_again() -> None:
    assert isinstance(policy(most=0).after(failure(), 0.0), Enough)


def test_what_is_bound_to_come_again_is_not_tried_again() -> None:
    assert isinstance(policy().after(Failure("the loss is not finite", True, None, repeats=True), 0.0), Enough)


def test_failures_that_an_earlier_coordinator_was_told_of_count() -> None:
    subject = policy()
    subject.recall([(-100.0, True, "a"), (-50.0, False, "")])
    answer = subject.after(failure(), 0.0)
    assert isinstance(answer, Enough)
    old = policy()
    old.recall([(-2 * HOUR, False, "a"), (-1.5 * HOUR, False, "a")])
    assert old.after(failure(), 0.0) == Again(0.0)
