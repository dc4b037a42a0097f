"""The plan of a generation: who runs where, at which port, with which threads, argv and files."""

from __future__ import annotations

import dataclasses
import json

import pytest

from launcher.errors import NotFitError, SpecError
from launcher.plan.build import plan
from launcher.spec.model import HostSpec
from tests.plan_values import facts, spec


def a(**keys: object) -> HostSpec:
    return HostSpec("a", local=True, **keys)  # type: ignore[arg-type]


def b(**keys: object) -> HostSpec:
    return HostSpec("b", local=True, **keys)  # type: ignore[arg-type]


def test_ranks_are_numbered_in_the_order_of_the_hosts() -> None:
    made = plan(spec(b(workers=2), a(workers=1)), {"a": facts("a"), "b": facts("b")}, run="r")
    assert [(rank.rank, rank.host) for rank in made.ranks] == [(0, "b"), (1, "b"), (2, "a")]
    assert [(host.name, host.ranks) for host in made.hosts] == [("b", (0, 1)), ("a", (2,))]
    assert made.known


def test_a_plan_is_the_same_for_the_same_values_and_cannot_be_changed() -> None:
    cluster, found = spec(a(workers=2)), {"a": facts("a")}
    made = plan(cluster, found, run="r")
    assert made == plan(cluster, found, run="r")
    with pytest.raises(TypeError):
        made.ranks[0].env["X"] = "1"  # type: ignore[index]
    with pytest.raises(TypeError):
        made.ranks[0].files["log"] = "x"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.ranks[0].port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cores", "workers", "said", "threads"),
    [(8, 2, None, 4), (8, 3, None, 2), (2, 4, None, 1), (8, 2, 7, 7)],
)
def test_threads_are_what_the_spec_says_or_an_even_share_of_the_cores(
    cores: int, workers: int, said: int | None, threads: int
) -> None:
    made = plan(spec(a(workers=workers, threads=said)), {"a": facts("a", cores=cores)}, run="r")
    assert {rank.threads for rank in made.ranks} == {threads}
    assert {rank.env["TF_NUM_INTRAOP_THREADS"] for rank in made.ranks} == {str(threads)}


def test_two_hosts_on_one_machine_share_its_cores_and_ports() -> None:
    found = {"a": facts("a", machine="m", cores=8), "b": facts("b", machine="m", cores=8)}
    made = plan(spec(a(workers=1), b(workers=3)), found, run="r")
    assert {rank.threads for rank in made.ranks} == {2}
    assert [rank.port for rank in made.ranks] == [20000, 20001, 20002, 20003]


def test_two_machines_may_use_the_same_port() -> None:
    made = plan(spec(a(), b()), {"a": facts("a"), "b": facts("b")}, run="r")
    assert [rank.port for rank in made.ranks] == [20000, 20000]


def test_ports_are_taken_in_their_order_but_for_those_to_avoid_and_those_out_of_the_range() -> None:
    found = {"a": facts("a", free_ports=(20007, 443, 20003, 20003, 20001, 20009))}
    made = plan(spec(a(workers=3)), found, run="r", avoid_ports={20003})
    assert [rank.port for rank in made.ranks] == [20007, 20001, 20009]


def test_too_few_free_ports_name_host_range_and_what_to_change() -> None:
    with pytest.raises(NotFitError) as caught:
        plan(spec(a(workers=3, ports=(30000, 30009))), {"a": facts("a", free_ports=(30001, 30002))}, run="r")
    assert caught.value.message == "host a: not enough free ports in 30000-30009: 3 needed, 2 left"
    assert "ports: 30010-30109" in caught.value.hint


@pytest.mark.parametrize(
    ("hosts", "machines", "addresses"),
    [
        ([a()], ["m"], ["127.0.0.1"]),
        ([a(), b()], ["m", "m"], ["127.0.0.1", "127.0.0.1"]),
        ([a(address="gpu-a.lan"), b()], ["m", "m"], ["gpu-a.lan", "10.0.0.2"]),
        ([a(network="10.0.0.0/24"), b()], ["m", "m"], ["10.0.0.1", "10.0.0.2"]),
        ([a(), b()], ["m", "n"], ["10.0.0.1", "10.0.0.2"]),
        ([a(address="192.168.0.9"), b()], ["m", None], ["192.168.0.9", None]),
        ([a(), b(address="192.168.0.9")], ["m", None], ["10.0.0.1", "192.168.0.9"]),
    ],
)
def test_the_address_is_loopback_only_when_nobody_is_elsewhere(
    hosts: list[HostSpec], machines: list[str | None], addresses: list[str | None]
) -> None:
    found = {
        host.name: facts(host.name, machine=machine, address=f"10.0.0.{i}")
        for i, (host, machine) in enumerate(zip(hosts, machines, strict=True), 1)
        if machine is not None
    }
    assert [rank.address for rank in plan(spec(*hosts), found, run="r").ranks] == addresses


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "::1", "localhost"])
def test_a_loopback_address_is_refused_when_workers_are_on_two_machines(address: str) -> None:
    with pytest.raises(NotFitError, match="host b: its address is") as caught:
        plan(spec(a(), b()), {"a": facts("a"), "b": facts("b", address=address)}, run="r")
    assert "network:" in caught.value.hint


def test_two_machines_at_one_address_and_port_are_refused() -> None:
    found = {"a": facts("a", address="10.1.1.1"), "b": facts("b", address="10.1.1.1")}
    with pytest.raises(NotFitError, match=r"ranks 0 \(host a\) and 1 \(host b\) would both be at 10.1.1.1:20000"):
        plan(spec(a(), b()), found, run="r")


def test_ipv6_addresses_stand_in_brackets_in_tf_config_and_bare_in_no_proxy() -> None:
    found = {"a": facts("a", address="fd00::1"), "b": facts("b", address="fd00::2")}
    made = plan(spec(a(), b()), found, run="r")
    config = json.loads(made.ranks[1].env["TF_CONFIG"])
    assert config == {
        "cluster": {"worker": ["[fd00::1]:20000", "[fd00::2]:20000"]},
        "task": {"type": "worker", "index": 1},
    }
    assert made.ranks[0].env["no_proxy"] == "fd00::1,fd00::2"


def test_the_trainer_runs_from_the_staged_code_and_a_program_under_the_hosts_python() -> None:
    found = {"a": facts("a")}
    trainer = plan(spec(a()), found, run="r").ranks[0]
    assert trainer.argv == ("/venv/bin/python", "/runs/job/hosts/a/code/abc", "train")
    assert trainer.stop == "message"
    for word, first in [("python", "/venv/bin/python"), ("python3", "/venv/bin/python"), ("./run.sh", "./run.sh")]:
        program = plan(spec(a(), program=(word, "train.py", "python")), found, run="r").ranks[0]
        assert program.argv == (first, "train.py", "python")
        assert program.cwd == "/runs/job/hosts/a/sources/def"
        assert program.stop == "SIGTERM"


def test_the_files_of_a_rank_lie_in_its_hosts_folder() -> None:
    made = plan(spec(a(workers=2)), {"a": facts("a")}, run="r", generation=3)
    assert made.ranks[1].files == {
        "log": "/runs/job/hosts/a/g3/rank1.log",
        "progress": "/runs/job/hosts/a/g3/rank1.progress.jsonl",
        "checkpoints": "/runs/job/hosts/a/g3/rank1/checkpoints",
        "output": "/runs/job/hosts/a/g3/rank1/output",
    }


def test_what_depends_on_facts_of_an_unknown_host_is_none_and_nobodys_tf_config_is_made() -> None:
    made = plan(spec(a(), b(workers=2)), {"a": facts("a")}, run="r")
    assert not made.known
    assert not any(rank.known for rank in made.ranks)
    unknown = made.ranks[2]
    assert (unknown.address, unknown.port, unknown.threads, unknown.cwd, unknown.files) == (None, None, None, None, {})
    assert made.ranks[0].address == facts("a").address
    assert not any("TF_CONFIG" in rank.env or "no_proxy" in rank.env for rank in made.ranks)
    assert made.hosts[1].folder is None


def test_resuming_names_the_checkpoint_and_gives_each_host_its_folder() -> None:
    made = plan(
        spec(a(), b()),
        {"a": facts("a"), "b": facts("b")},
        run="r",
        generation=2,
        resumes="g1-s40",
        resume_dirs={"b": "/else/g1-s40"},
    )
    assert made.resumes == "g1-s40"
    assert [rank.env["LAUNCHER_RESUME_DIR"] for rank in made.ranks] == [
        "/runs/job/hosts/a/checkpoints/g1-s40",
        "/else/g1-s40",
    ]


def test_no_hosts_at_all_are_a_problem_of_the_spec() -> None:
    with pytest.raises(SpecError):
        plan(spec(), {}, run="r")
