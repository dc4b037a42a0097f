"""`--set KEY=VALUE`: any key, before anything is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec import load
from launcher.spec.model import ClusterSpec, DatasetSpec, Ssh

TEXT = """\
name: a
hosts: [gpu-a, {name: here, local: true}, localhost]
train: {epochs: 5}
"""


def read(tmp_path: Path, *settings: str, text: str = TEXT) -> ClusterSpec:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return load(path, settings, environ={"HOME": "/home/me"})


def test_a_value_is_replaced_or_added_and_the_last_one_counts(tmp_path: Path) -> None:
    spec = read(
        tmp_path, "train.epochs=2", "train.seed=4", "train.seed=5", "timeouts.stop=1 min", "checkpoint.every=3 steps"
    )
    assert spec.train is not None
    assert (spec.train.epochs, spec.train.seed, spec.timeouts.stop, spec.checkpoint.every_steps) == (2, 5, 60.0, 3)


def test_hosts_are_reached_by_their_place_even_where_only_an_alias_stands(tmp_path: Path) -> None:
    spec = read(tmp_path, "hosts[0].gpus=[0, 1]", "hosts[1].env.A=b=c", "hosts[2].workers=2", "hosts[0].name=x")
    assert (spec.hosts[0].ssh, spec.hosts[0].gpus, spec.hosts[0].name) == (Ssh(alias="gpu-a"), (0, 1), "x")
    assert spec.hosts[1].env == {"A": "b=c"}
    assert (spec.hosts[2].local, spec.hosts[2].workers) == (True, 2)


def test_a_whole_mapping_or_list_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    spec = read(tmp_path, "hosts=[localhost]", "train={epochs: 1, dataset: {idx: d}}")
    assert [host.name for host in spec.hosts] == ["localhost"]
    assert spec.train is not None
    assert spec.train.dataset == DatasetSpec("idx", str(tmp_path / "d"))


def test_nothing_after_the_sign_goes_back_to_the_default(tmp_path: Path) -> None:
    spec = read(tmp_path, "train.epochs=", text=TEXT.replace("5", "9"))
    assert spec.train is not None
    assert spec.train.epochs == 5


def test_an_alias_shared_by_two_hosts_is_changed_at_one_of_them(tmp_path: Path) -> None:
    text = "name: a\nhosts: [{ssh: x, env: &e {A: b}}, {ssh: y, env: *e}]\n"
    assert [host.env["A"] for host in read(tmp_path, "hosts[1].env.A=c", text=text).hosts] == ["b", "c"]


@pytest.mark.parametrize(
    ("setting", "where", "path", "message"),
    [
        ("train.epochs", "--set train.epochs", "the command line", "no value"),
        ("=3", "--set ", "the command line", "not a key"),
        ("train..epochs=3", "--set train..epochs", "the command line", "not a key"),
        ("a[x]=3", "--set a[x]", "the command line", "not a key"),
        ("train.epochs=x", "--set train.epochs", "train.epochs", "not a whole number"),
        ("train.epoch=3", "--set train.epoch", "train.epoch", "unknown key"),
        ("hosts[7].gpus=1", "--set hosts[7].gpus", "hosts", "hosts has 3 items"),
        ("hosts.gpus=1", "--set hosts.gpus", "hosts", "hosts is not a mapping"),
        ("train[0]=1", "--set train[0]", "train", "train is not a list"),
        ("train.epochs.x=1", "--set train.epochs.x", "train.epochs", "train.epochs is not a mapping"),
        ("sync.source=[a", "--set sync.source", "sync.source", "not valid YAML"),
        ("sync.source=a: b: c", "--set sync.source", "sync.source", "not valid YAML"),
        ("restart.grow=x", "--set restart.grow", "restart.grow", "not known"),
        ("train.seed=\udcff", "--set train.seed", "train.seed", "the value is not UTF-8"),
    ],
)
def test_a_setting_that_cannot_be_names_itself(
    tmp_path: Path, setting: str, where: str, path: str, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, setting)
    (problem,) = caught.value.problems
    assert (problem.where, problem.path) == (where, path)
    assert problem.message.startswith(message)
