"""A plan as JSON and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launcher.errors import RunError
from launcher.plan.build import plan
from launcher.plan.json_form import from_json, to_json
from launcher.spec.model import HostSpec
from tests.plan_values import facts, spec

A, B = HostSpec("a", local=True, workers=2), HostSpec("b", local=True)
EVERYWHERE = {"a": facts("a", gpus=4), "b": facts("b", gpus=2)}


@pytest.mark.parametrize("found", [EVERYWHERE, {"a": EVERYWHERE["a"]}, {}])
@pytest.mark.parametrize("program", [(), ("python", "it's\nme \udcff.py")])
def test_a_plan_comes_back_equal(found: Any, program: tuple[str, ...]) -> None:
    made = plan(spec(A, B, program=program, secrets=("KEY",)), found, run="r", resumes="g1-s5", generation=2)
    assert from_json(json.loads(json.dumps(to_json(made)))) == made


def test_the_keys_are_stable() -> None:
    value = to_json(plan(spec(A), EVERYWHERE, run="r"))
    assert list(value) == [
        "version",
        "run",
        "generation",
        "resumes",
        "global_batch",
        "epochs",
        "promise",
        "known",
        "hosts",
        "ranks",
    ]
    assert list(value["hosts"][0]) == ["name", "local", "folder", "code", "ranks", "workers"]
    assert list(value["ranks"][0]) == [
        *("rank", "host", "address", "port", "gpus", "threads", "argv", "cwd"),
        *("env", "secrets", "files", "stop", "saves", "known"),
    ]


def damaged(key: str, value: object) -> dict[str, Any]:
    form = to_json(plan(spec(A), EVERYWHERE, run="r"))
    where, _, inner = key.rpartition(".")
    place = form[where][0] if where else form
    place.pop(inner)
    if value is not None:
        place[inner] = value
    return form


@pytest.mark.parametrize(
    "form",
    [
        None,
        [],
        {},
        damaged("version", 99),
        damaged("run", None),
        damaged("generation", "1"),
        damaged("generation", True),
        damaged("hosts", {}),
        damaged("hosts.local", "yes"),
        damaged("ranks", [3]),
        damaged("ranks.env", {"A": 1}),
        damaged("ranks.stop", "SIGKILL"),
        damaged("ranks.argv", [1]),
        damaged("ranks.port", "1"),
    ],
)
def test_what_is_no_plan_is_refused(form: object) -> None:
    with pytest.raises(RunError, match="no plan of a generation"):
        from_json(form)
