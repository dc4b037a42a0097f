"""Of a checkpoint that several hosts have, one copy comes home: whose turn it is, by a clock that the tests move."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.gather.copies import AWAY_S, LATER_S, SOON_S, Copies, Turn

A, B = "a", "b"
NAME = "g1-s9"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def copies(tmp_path: Path, clock: Clock) -> Copies:
    made = Copies({A: str(tmp_path / A), B: str(tmp_path / B)}, clock=clock)
    made.join(A)
    made.join(B)
    return made


def turn(copies: Copies, host: str, name: str = NAME, *, hurried: bool = False) -> Turn:
    return copies.turn(host, name, hurried=hurried)


def test_the_first_host_brings_what_both_have(copies: Copies, clock: Clock) -> None:
    copies.listed(B, [NAME], [])
    assert turn(copies, B) is Turn.NOBODYS, "the first has not answered yet"
    copies.listed(A, [NAME], [])
    clock.now += 1000
    assert turn(copies, B) is Turn.THEIRS, "however long it takes"
    assert turn(copies, A) is Turn.OURS


def test_another_steps_in_for_one_that_is_away_and_is_left_to_it(copies: Copies, clock: Clock) -> None:
    for host in (A, B):
        copies.listed(host, [NAME], [])
    assert turn(copies, A) is Turn.OURS
    copies.away(A)
    clock.now += AWAY_S / 2
    copies.away(A)  # the next try failed, too
    assert turn(copies, B) is Turn.NOBODYS, "it may go on where it was"
    clock.now += AWAY_S
    assert turn(copies, B) is Turn.OURS
    copies.listed(A, [NAME], [])
    assert turn(copies, A) is Turn.THEIRS, "it is back, and the other has begun"


def test_who_is_in_a_hurry_does_not_wait_for_one_that_is_away(copies: Copies) -> None:
    for host in (A, B):
        copies.listed(host, [NAME], [])
    assert turn(copies, A) is Turn.OURS
    assert turn(copies, B, hurried=True) is Turn.THEIRS
    copies.away(A)
    assert turn(copies, B, hurried=True) is Turn.OURS


def test_another_has_what_the_first_refused_or_gave_up(copies: Copies) -> None:
    copies.listed(A, [NAME], [NAME])
    copies.listed(B, [NAME], [])
    assert turn(copies, B) is Turn.OURS


def test_one_that_is_given_up_is_not_waited_for(copies: Copies) -> None:
    copies.listed(A, [NAME], [])
    copies.listed(B, [NAME], [])
    copies.over(A)
    assert turn(copies, B) is Turn.OURS


@pytest.mark.parametrize(("known", "patience"), [([], SOON_S), (["g1-s8"], LATER_S), (["g0-s8"], SOON_S)])
def test_the_first_may_publish_later_than_the_other(
    copies: Copies, clock: Clock, known: list[str], patience: float
) -> None:
    copies.listed(B, [NAME], [])
    clock.now += patience - 0.1
    copies.listed(A, known, [])
    assert turn(copies, B) is Turn.NOBODYS
    clock.now += 1000
    assert turn(copies, B) is Turn.NOBODYS, "the first is busy: it has not looked since"
    copies.listed(A, known, [])
    assert turn(copies, B) is Turn.OURS


def test_a_list_says_nothing_of_what_was_published_while_it_was_on_its_way(copies: Copies, clock: Clock) -> None:
    asked_at = copies.looks()
    clock.now += 0.1
    copies.listed(B, [NAME], [])
    clock.now += 0.1
    copies.listed(A, [], [], asked_at)  # made before both published it
    assert turn(copies, B, hurried=True) is Turn.NOBODYS
    copies.listed(A, [NAME], [], copies.looks())
    assert turn(copies, B, hurried=True) is Turn.THEIRS


def test_a_host_that_is_this_machine_need_not_be_asked(tmp_path: Path, clock: Clock) -> None:
    here, away = tmp_path / "here", tmp_path / B
    copies = Copies({A: str(here), B: str(away)}, [A], clock=clock)
    copies.join(B)
    (here / "checkpoints/g1-s8").mkdir(parents=True)
    copies.listed(B, [NAME], [])
    assert turn(copies, B) is Turn.NOBODYS, "it has published before, and will in a moment"
    (here / "checkpoints" / NAME).mkdir()
    assert copies.elsewhere(B)[NAME] == str(here / "checkpoints" / NAME)
    clock.now += LATER_S
    assert turn(copies, B, "g1-s10") is Turn.OURS


def test_what_programs_save_is_each_hosts_own(tmp_path: Path) -> None:
    copies = Copies({A: str(tmp_path / A), B: str(tmp_path / B)}, shared=False)
    (tmp_path / A / "checkpoints" / NAME).mkdir(parents=True)
    for host in (A, B):
        copies.join(host)
        copies.listed(host, [NAME], [])
    assert copies.elsewhere(B) == {}
    assert [turn(copies, host) for host in (A, B)] == [Turn.OURS, Turn.OURS]
