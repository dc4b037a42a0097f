"""Which GPUs each worker gets."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.errors import NotFitError
from launcher.plan.build import plan
from launcher.plan.facts import HostFacts
from launcher.spec.model import HostSpec
from tests.plan_values import facts, spec


def gpus(hosts: list[HostSpec], *found: HostFacts) -> list[str]:
    """The last parts of the UUIDs of each rank, as in `a0,a1`."""
    made = plan(spec(*hosts), {one.host: one for one in found}, run="r")
    for rank in made.ranks:
        assert rank.env["CUDA_VISIBLE_DEVICES"] == ",".join(rank.gpus)
        assert rank.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    return [",".join(uuid.replace("GPU-", "").replace("-", "") for uuid in rank.gpus) for rank in made.ranks]


def host(name: str = "a", **keys: Any) -> HostSpec:
    return HostSpec(name, local=True, **keys)


@pytest.mark.parametrize(
    ("keys", "there", "busy", "expected"),
    [
        ({}, 0, (), [""]),
        ({"workers": 2}, 0, (), ["", ""]),
        ({}, 4, (), ["a0,a1,a2,a3"]),
        ({"workers": 2}, 4, (), ["a0,a1", "a2,a3"]),
        ({"workers": 2}, 4, (0, 3), ["a1", "a2"]),
        ({"gpus": "all", "workers": 2}, 2, (), ["a0", "a1"]),
        ({"gpus": 2}, 4, (0,), ["a1,a2"]),
        ({"gpus": 0, "workers": 2}, 4, (), ["", ""]),
        ({"gpus": (3, 1)}, 4, (0,), ["a3,a1"]),
        ({"gpus": ()}, 4, (), [""]),
        ({"gpus_per_worker": 4}, 8, (), ["a0,a1,a2,a3", "a4,a5,a6,a7"]),
        ({"gpus_per_worker": 3}, 8, (0,), ["a1,a2,a3", "a4,a5,a6"]),
        ({"gpus_per_worker": 2, "gpus": 4}, 8, (), ["a0,a1", "a2,a3"]),
        ({}, 2, (0, 1), [""]),
    ],
)
def test_a_hosts_gpus_are_chosen_and_split_evenly(
    keys: dict[str, Any], there: int, busy: tuple[int, ...], expected: list[str]
) -> None:
    assert gpus([host(**keys)], facts("a", gpus=there, busy=busy)) == expected


@pytest.mark.parametrize(
    ("keys", "there", "busy", "message", "hint"),
    [
        (
            {"gpus": "all"},
            2,
            (1,),
            r"1 of the 2 GPUs .* busy: GPU 1 \(H100\) is held by train.py \(pid 7\)",
            "gpus: free",
        ),
        ({"gpus": (0,)}, 2, (0,), r"1 of the 1 GPU .* GPU 0 \(H100\) is held by train.py \(pid 7\)", "gpus: free"),
        ({"gpus": 2}, 2, (1,), r"2 GPUs are asked for, and 1 of 2 is free: GPU 1 .* held by train.py", "gpus: 1"),
        ({"gpus": 1}, 0, (), "1 GPUs are asked for, and none is there", "gpus: 0"),
        ({"gpus": (0, 5, 6)}, 2, (), "there is no GPU 5, 6; found: 0, 1", "nvidia-smi"),
        (
            {"workers": 2},
            3,
            (),
            "3 GPUs cannot be split evenly over 2 workers",
            "`workers: 1` (3 GPUs each) or `gpus: 2`",
        ),
        ({"workers": 4}, 6, (), "6 GPUs cannot be split", "`workers: 3` (2 GPUs each) or `gpus: 4` (1 GPU each)"),
        ({"workers": 2}, 1, (), "1 GPU cannot be split", "`gpus: 0` (all on the CPU)"),
        (
            {"gpus_per_worker": 4},
            3,
            (),
            "workers of 4 GPUs each are asked for, and it has 3 GPUs",
            "gpus_per_worker: 3",
        ),
        ({"gpus_per_worker": 4}, 0, (), "it has 0 GPUs", "workers: 1"),
        ({"gpus_per_worker": 2, "gpus": 3}, 8, (), "workers of 2 GPUs each are asked for, and it has 3", "gpus"),
    ],
)
def test_what_cannot_be_given_is_refused_with_what_would_work(
    keys: dict[str, Any], there: int, busy: tuple[int, ...], message: str, hint: str
) -> None:
    with pytest.raises(NotFitError, match=message) as caught:
        gpus([host(**keys)], facts("a", gpus=there, busy=busy))
    assert hint in caught.value.hint
    assert "a" in caught.value.message


def test_eight_and_four_gpus_make_two_workers_and_one() -> None:
    hosts = [host("a", gpus_per_worker=4), host("b", gpus_per_worker=4)]
    assert gpus(hosts, facts("a", gpus=8), facts("b", gpus=4)) == ["a0,a1,a2,a3", "a4,a5,a6,a7", "b0,b1,b2,b3"]


@pytest.mark.parametrize(
    ("there", "hint"),
    [((8, 4), "`gpus_per_worker: 4` in host_defaults"), ((6, 4), "`gpus: 4` for a"), ((2, 0), "leave out b")],
)
def test_hosts_whose_workers_differ_in_devices_are_refused_with_a_split_that_works(
    there: tuple[int, int], hint: str
) -> None:
    with pytest.raises(NotFitError, match=f"per worker a has {there[0]}, b has {there[1]}") as caught:
        gpus([host("a"), host("b")], facts("a", gpus=there[0]), facts("b", gpus=there[1]))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("one", "two", "there", "expected"),
    [
        ({}, {}, 4, ["m0,m1", "m2,m3"]),
        ({"workers": 2}, {}, 3, ["m0", "m1", "m2"]),
        ({}, {"gpus": (0, 1)}, 4, ["m2,m3", "m0,m1"]),
        ({"gpus": 1}, {"gpus": 1}, 2, ["m0", "m1"]),
        ({}, {}, 0, ["", ""]),
    ],
)
def test_two_hosts_on_one_machine_never_share_a_gpu(
    one: dict[str, Any], two: dict[str, Any], there: int, expected: list[str]
) -> None:
    found = [facts(name, machine="m", gpus=there) for name in ("a", "b")]
    assert gpus([host("a", **one), host("b", **two)], *found) == expected


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ({"gpus": "all"}, {"gpus": (0,)}, "GPU 0 .* is held by host a of this cluster, on the same machine"),
        ({"gpus": 2}, {"gpus": 1}, "0 of 2 are free: GPU 0 .* host a of this cluster"),
        ({}, {"workers": 2}, "hosts a, b are one machine with 2 free GPUs for 3 workers"),
    ],
)
def test_two_hosts_that_claim_one_machines_gpu_are_refused(
    one: dict[str, Any], two: dict[str, Any], message: str
) -> None:
    with pytest.raises(NotFitError, match=message):
        gpus([host("a", **one), host("b", **two)], *(facts(name, machine="m", gpus=2) for name in ("a", "b")))


@pytest.mark.parametrize(
    ("keys", "workers", "counted"),
    [
        ({"workers": 3}, 3, True),
        ({"gpus_per_worker": 2, "gpus": 6}, 3, True),
        ({"gpus_per_worker": 2, "gpus": (0, 1, 2, 3)}, 2, True),
        ({"gpus_per_worker": 2}, 1, False),
        ({}, 1, True),
    ],
)
def test_without_facts_the_workers_are_counted_from_the_spec_where_it_tells(
    keys: dict[str, Any], workers: int, counted: bool
) -> None:
    made = plan(spec(host(**keys)), {}, run="r")
    assert len(made.ranks) == workers
    assert ("LAUNCHER_WORLD_SIZE" in made.ranks[0].env) is counted
