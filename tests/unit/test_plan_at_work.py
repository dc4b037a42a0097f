"""Plans in which not every host of the spec is at work."""

from __future__ import annotations

import json

from launcher.plan.build import plan
from launcher.plan.json_form import from_json, to_json
from launcher.spec.model import HostSpec, RestartSpec
from tests.plan_values import facts, spec

A, B, C = (HostSpec(name, local=True, workers=count) for name, count in (("a", 2), ("b", 1), ("c", 1)))
FACTS = {name: facts(name) for name in "abc"}


def test_ranks_are_numbered_over_those_at_work_and_the_global_batch_stays() -> None:
    whole = plan(spec(A, B, C), FACTS, run="r")
    smaller = plan(spec(A, B, C), FACTS, run="r", generation=2, at_work=("b", "c"))
    assert [(rank.rank, rank.host) for rank in smaller.ranks] == [(0, "b"), (1, "c")]
    assert smaller.global_batch == whole.global_batch == 64
    assert [json.loads(rank.env["LAUNCHER_TRAIN"])["workers"] for rank in smaller.ranks] == [2, 2]
    cluster = json.loads(smaller.ranks[0].env["TF_CONFIG"])["cluster"]["worker"]
    assert [endpoint.split(":")[0] for endpoint in cluster] == [FACTS["b"].address, FACTS["c"].address]
    assert [rank.saves for rank in smaller.ranks] == [True, True], "a copy is on a second host again"


def test_the_others_are_in_the_plan_with_their_folders_and_without_ranks() -> None:
    made = plan(spec(A, B, C), FACTS, run="r", at_work=("a", "c"))
    assert [(host.name, host.ranks, host.workers) for host in made.hosts] == [
        ("a", (0, 1), 2),
        ("b", (), 1),
        ("c", (2,), 1),
    ]
    assert made.hosts[1].folder == FACTS["b"].folder
    assert [host.name for host in made.at_work] == ["a", "c"]
    assert from_json(json.loads(json.dumps(to_json(made)))) == made


def test_the_last_hosts_are_held_in_reserve_at_first() -> None:
    made = plan(spec(A, B, C, restart=RestartSpec(spares=1)), FACTS, run="r")
    assert [host.name for host in made.at_work] == ["a", "b"]


def test_a_spare_may_be_busy_without_harm() -> None:
    busy = {**FACTS, "c": facts("c", gpus=1, busy=(0,))}
    made = plan(spec(A, B, HostSpec("c", local=True, gpus=1), restart=RestartSpec(spares=1)), busy, run="r")
    assert [host.name for host in made.at_work] == ["a", "b"]
