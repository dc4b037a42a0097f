"""Which ranks may come off one zygote: what the import could have seen must be the same."""

from __future__ import annotations

from typing import Any

import pytest

from worker.agent.orders import BadOrderError, RankOrder, parse_order
from worker.agent.origin import doubt, environment, is_trainer, origin

ENV = {
    "PATH": "/bin",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CONFIG": "{}",
    "TMPDIR": "/tmp/0",
    "CUDA_VISIBLE_DEVICES": "0",
    "no_proxy": "10.0.0.1",
    "LAUNCHER_RANK": "0",
    "LAUNCHER_MARK": "m",
    "LAUNCHER_TRAIN": "{}",
    "API_KEY": "hidden",
}


def order(**changes: Any) -> RankOrder:
    values: dict[str, Any] = {
        "rank": 0,
        "argv": ("python", "/code", "train"),
        "cwd": "/sources",
        "env": {},
        "secrets": {"API_KEY": "hidden"},
        "message": True,
        "chief": True,
    }
    return RankOrder(**{**values, **changes})


@pytest.mark.parametrize(
    "name", ["TF_CONFIG", "TMPDIR", "CUDA_VISIBLE_DEVICES", "no_proxy", "LAUNCHER_RANK", "API_KEY"]
)
def test_what_is_set_after_the_fork_makes_no_other_origin(name: str) -> None:
    assert origin(order(), {**ENV, name: "another"}) == origin(order(), ENV)


@pytest.mark.parametrize(
    "name",
    ["TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "LD_PRELOAD", "MALLOC_ARENA_MAX", "PYTHONHASHSEED", "CUDA_HOME", "ANYTHING"],
)
def test_whatever_else_is_set_does(name: str) -> None:
    assert origin(order(), {**ENV, name: "1"}) != origin(order(), ENV)
    assert origin(order(), {**ENV, name: "1"}) != origin(order(), {**ENV, name: "2"})


@pytest.mark.parametrize(
    "changes",
    [{"argv": ("python3", "/code", "train")}, {"argv": ("python", "/other", "train")}, {"cwd": "/elsewhere"}],
)
def test_python_code_and_folder_are_part_of_it(changes: dict[str, Any]) -> None:
    assert origin(order(**changes), ENV) != origin(order(), ENV)


def test_a_zygote_has_the_runs_mark_and_no_secret() -> None:
    env = environment(origin(order(), ENV), ENV)
    assert (env["LAUNCHER_MARK"], env["PATH"]) == ("m", "/bin")
    assert not {"API_KEY", "TF_CONFIG"} & set(env)
    assert not env["LAUNCHER_RANK"].strip()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"message": False}, False),
        ({"argv": ("python", "train.py")}, False),
        ({"argv": ("python", "/code", "train", "--fast")}, False),
    ],
)
def test_only_the_built_in_trainer_is_forked(changes: dict[str, Any], expected: bool) -> None:
    assert is_trainer(order(**changes)) is expected


def test_threads_or_a_secret_that_the_import_may_read_are_reasons_for_a_cold_start() -> None:
    assert doubt(order(), ENV) == ""
    assert "OPENBLAS_NUM_THREADS" in doubt(order(), {**ENV, "OPENBLAS_NUM_THREADS": "4"})
    assert "TF_TOKEN" in doubt(order(secrets={"TF_TOKEN": "x"}), ENV)


def test_an_order_says_whether_a_zygote_is_wanted() -> None:
    rank = {"rank": 0, "argv": ["a"], "cwd": "/", "env": {}, "stop": "message", "chief": True}
    message = {"type": "start", "generation": 1, "ranks": [rank], "timeouts": {}}
    assert parse_order(message).zygote is True
    assert parse_order({**message, "zygote": False}).zygote is False
    with pytest.raises(BadOrderError, match="zygote"):
        parse_order({**message, "zygote": "yes"})
