"""What each worker finds in its environment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import SpecError
from launcher.plan.build import plan
from launcher.plan.facts import HostFacts
from launcher.plan.model import RankPlan
from launcher.spec.model import CheckpointSpec, DatasetSpec, HostSpec, Named, TrainSpec
from tests.plan_values import facts, spec
from worker.contract import names

# The agent sets these itself: the mark is the host folder's own, the descriptor exists only in the agent.
AGENTS = {names.MARK, names.CONTROL_FD, names.STACKS_FILE}
OF_DATA = names.DATA + "NAME"


def rank(
    env: dict[str, str] | None = None, *, found: HostFacts | None = None, number: int = 0, **keys: Any
) -> RankPlan:
    host = HostSpec("a", local=True, workers=2, env=env or {})
    return plan(spec(host, **keys), {"a": found or facts("a")}, run="job-1", generation=2).ranks[number]


def test_the_trainer_gets_every_variable_of_the_contract_but_the_agents_own() -> None:
    env = rank(number=1).env
    assert names.PROSE.keys() - AGENTS - {OF_DATA} <= env.keys()
    assert {key: env[key] for key in (names.RUN, names.HOST, names.RANK, names.WORLD_SIZE, names.GENERATION)} == {
        names.RUN: "job-1",
        names.HOST: "a",
        names.RANK: "1",
        names.WORLD_SIZE: "2",
        names.GENERATION: "2",
    }
    folder = "/runs/job/hosts/a/g2"
    assert env[names.CHECKPOINT_DIR] == f"{folder}/rank1/checkpoints"
    assert env[names.OUTPUT_DIR] == f"{folder}/rank1/output"
    assert env[names.PROGRESS_FILE] == f"{folder}/rank1.progress.jsonl"
    assert env["TMPDIR"] == f"{folder}/rank1/tmp"
    assert env[names.RESUME_DIR] == ""
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["OPENBLAS_NUM_THREADS"] == "1"


def test_the_trainers_settings_travel_as_json() -> None:
    host = HostSpec("a", local=True, workers=2)
    train = TrainSpec(dataset=DatasetSpec("npz", "/data/x y.npz"), epochs=9, precision=Named("mixed_bfloat16"))
    cluster = spec(host, checkpoint=CheckpointSpec(None, 50, 600.0))
    cluster = type(cluster)(**{**cluster.__dict__, "train": train})
    assert json.loads(plan(cluster, {"a": facts("a")}, run="r").ranks[0].env[names.TRAIN]) == {
        "model": "cnn",
        "dataset": {"kind": "npz", "path": "/data/x y.npz"},
        "epochs": 9,
        "batch_size": 64,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "loss": None,
        "seed": 0,
        "deterministic": True,
        "precision": "mixed_bfloat16",
        "communication": "auto",
        "threads": 4,
        "workers": 2,
        "checkpoint": {"every_epochs": None, "every_steps": 50, "every_seconds": 600.0, "saves": True},
    }


def test_a_program_finds_its_folder_first_on_the_path_and_no_trainers_settings() -> None:
    found = facts("a", environment={"PYTHONPATH": "/site"})
    assert rank(found=found, program=("python", "t.py")).env["PYTHONPATH"] == "/runs/job/hosts/a/sources/def:/site"
    theirs = rank({"PYTHONPATH": "/mine"}, found=found, program=("python", "t.py")).env
    assert theirs["PYTHONPATH"] == "/runs/job/hosts/a/sources/def:/mine"
    assert names.TRAIN not in theirs
    assert "PYTHONPATH" not in rank(found=found).env


@pytest.mark.parametrize(
    ("train", "known"),
    [(TrainSpec(model="mine:build"), False), (TrainSpec(dataset=DatasetSpec("function", function="mine:load")), True)],
)
def test_a_trainer_with_functions_finds_them_first_on_the_path(train: TrainSpec, known: bool) -> None:
    given = replace(spec(HostSpec("a", local=True)), train=train)
    made = plan(given, {"a": facts("a", environment={"PYTHONPATH": "/site"})}, run="r")
    assert made.ranks[0].env["PYTHONPATH"] == "/runs/job/hosts/a/sources/def:/site"
    assert made.promise.startswith("the same bits on every run; ")
    assert ("the same mathematics for any number of workers" in made.promise) == known
    assert ("docs/exactness.md" in made.promise) != known


@pytest.mark.parametrize(
    ("hosts", "users", "expected"),
    [
        ({}, {}, "127.0.0.1"),
        ({"no_proxy": ".lan, 127.0.0.1"}, {}, ".lan,127.0.0.1"),
        ({"NO_PROXY": ".corp"}, {}, ".corp,127.0.0.1"),
        ({"no_proxy": ".lan", "NO_PROXY": ".corp"}, {}, ".lan,127.0.0.1"),
        ({"no_proxy": ".lan"}, {"no_proxy": "x"}, "x,127.0.0.1"),
        ({"no_proxy": "*"}, {}, "*"),
    ],
)
def test_lower_case_no_proxy_names_the_workers_and_what_the_host_names(
    hosts: dict[str, str], users: dict[str, str], expected: str
) -> None:
    assert rank(users, found=facts("a", environment=hosts)).env["no_proxy"] == expected


def test_nccl_is_given_an_interface_only_when_it_is_known_and_used() -> None:
    two = [HostSpec("a", local=True), HostSpec("b", local=True)]
    found = {"a": facts("a", interface="eth1"), "b": facts("b")}
    made = plan(spec(*two), found, run="r")
    assert made.ranks[0].env["NCCL_SOCKET_IFNAME"] == "eth1"
    assert "NCCL_SOCKET_IFNAME" not in made.ranks[1].env
    assert "NCCL_SOCKET_IFNAME" not in rank(found=facts("a", interface="eth1")).env  # all on loopback


def test_the_users_own_variables_come_last_and_win() -> None:
    env = rank({"OMP_NUM_THREADS": "7", "NCCL_DEBUG": "WARN"}).env
    assert (env["OMP_NUM_THREADS"], env["NCCL_DEBUG"]) == ("7", "WARN")
    assert list(env)[-1] == "NCCL_DEBUG"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TF_CONFIG", "{}"),
        ("LAUNCHER_RANK", "1"),
        ("LAUNCHER_ANYTHING", "1"),
        ("CUDA_VISIBLE_DEVICES", "0"),
        ("A B", "1"),
        ("A=B", "1"),
        ("", "1"),
        ("1A", "1"),
        ("OK", "a\0b"),
    ],
)
def test_the_launchers_names_and_impossible_ones_are_refused(name: str, value: str) -> None:
    with pytest.raises(SpecError) as caught:
        rank({name: value})
    (problem,) = caught.value.problems
    assert problem.path == f"hosts[a].env.{name}"
    assert problem.hint


def test_secrets_travel_by_name_only_and_cannot_be_the_launchers() -> None:
    assert rank(secrets=("WANDB_API_KEY",)).secrets == ("WANDB_API_KEY",)
    with pytest.raises(SpecError):
        rank(secrets=("TF_CONFIG",))


def test_the_page_about_the_plan_lists_every_variable() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text()
    for name, prose in names.PROSE.items():
        assert f"| `{name}` | {prose}" in page
    found = facts("a", interface="eth1", environment={"PYTHONPATH": "/p"})
    given = plan(
        spec(HostSpec("a", local=True), HostSpec("b", local=True), program=("python",)),
        {"a": found, "b": facts("b")},
        run="r",
    )
    assert [name for name in given.ranks[0].env if f"`{name}`" not in page] == []


def test_named_data_are_found_by_a_variable_of_their_own() -> None:
    cluster = spec(HostSpec("a", local=True))
    found = {"a": replace(facts("a"), data={"train-set": "/data/x"})}
    assert plan(cluster, found, run="r").ranks[0].env["LAUNCHER_DATA_TRAIN_SET"] == "/data/x"


def test_a_data_set_that_was_brought_to_a_host_is_read_there() -> None:
    cluster = spec(HostSpec("a", local=True))
    found = {"a": replace(facts("a"), dataset=("idx", "/work/data/x"))}
    told = json.loads(plan(cluster, found, run="r").ranks[0].env[names.TRAIN])
    assert told["dataset"] == {"kind": "idx", "path": "/work/data/x"}
