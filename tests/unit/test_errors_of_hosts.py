"""The errors of several hosts as one: each with its next step, those that say the same once, never without an end."""

from __future__ import annotations

from launcher.errors import NotFitError, of_hosts


def test_each_host_has_its_own_next_step_and_those_that_say_the_same_are_one() -> None:
    errors = [
        ("a", NotFitError("a: the disk is full:\n  no room", hint="make room")),
        ("b", NotFitError("host b: no such name", hint="mend it")),
        ("c", NotFitError("c: the disk is full:\n  no room", hint="make room")),
    ]
    error = of_hosts(errors, "cannot reach")
    assert error is not None
    assert error.message.splitlines() == [
        "cannot reach 3 hosts:",
        "  a and c: the disk is full:",
        "    no room",
        "    next: make room",
        "  b: no such name",
        "    next: mend it",
    ]


def test_one_error_is_itself_and_none_is_none() -> None:
    assert of_hosts([], "cannot reach") is None
    error = of_hosts([("a", NotFitError("a: gone", hint="look"))], "cannot reach")
    assert error is not None
    assert (error.message, error.hint) == ("a: gone", "look")


def test_of_many_hosts_the_first_are_told_and_the_others_counted() -> None:
    error = of_hosts([(f"h{n}", NotFitError(f"h{n}: fault {n}")) for n in range(50)], "cannot reach")
    assert error is not None
    assert error.message.splitlines()[-1] == "  and h8, h9, h10, h11 and 38 more"
