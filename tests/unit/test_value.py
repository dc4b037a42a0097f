"""Values: what every start on a host imports instead of dataclasses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker.contract.value import Value, hidden, made


class Point(Value):
    x: int
    y: int = 2


class Named(Point):
    name: str = ""
    more: dict[str, Any] = made(default_factory=dict)


class Login(Value):
    user: str
    password: str = hidden()


def test_fields_are_taken_in_order_or_by_name_with_their_defaults() -> None:
    assert (Point(1).x, Point(1).y) == (1, 2)
    assert Point(1, y=3) == Point(x=1, y=3) == Point(1, 3)
    one = Named(1, 2, "n")
    assert (one.x, one.name, one.more) == (1, "n", {})


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 3})])
def test_what_is_missing_or_too_much_is_refused(given: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(*given, **named)


def test_a_value_cannot_be_changed_and_equals_its_like_alone() -> None:
    with pytest.raises(AttributeError):
        Point(1).x = 2  # type: ignore[misc]
    assert Point(1) != Named(1)
    assert Point(1) != (1, 2)
    assert len({Point(1), Point(1, 2), Point(2)}) == 2


def test_each_has_a_default_of_its_own() -> None:
    Named(1).more["a"] = 1
    assert Named(1).more == {}


def test_what_is_hidden_is_shown_by_no_repr_and_has_no_default() -> None:
    assert repr(Login("me", "secret")) == "Login(user='me')"
    with pytest.raises(TypeError):
        Login("me")  # type: ignore[call-arg]


def test_an_agent_starts_without_modules_that_take_longer_than_itself() -> None:
    root = Path(__file__).parents[2] / "worker"
    load = (
        "import sys; package = type(sys)('ours'); package.__path__ = [sys.argv[1]]; sys.modules['ours'] = package;"
        "import ours.errands.visit, ours.agent.warden, ours.agent.shell; print(*sys.modules)"
    )
    argv = [sys.executable, "-I", "-S", "-c", load, str(root)]
    loaded = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert not {"dataclasses", "inspect", "hashlib", "subprocess", "tempfile", "shutil", "logging"} & set(loaded)
