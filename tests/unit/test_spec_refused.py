"""What is said of a cluster.yaml that cannot be used: everything at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec import load
from launcher.spec.model import TrainSpec
from tests.unit.spec_reading import HERE, problems, read, told


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
name: Fashion CNN
hosts:
  - {name: x}
  - {name: y, ssh: a, local: true, workers: 2}
  - name: Y
    ssh: b
    gpuz: 3
host_defaults:
  activate: foo
  threads: 010
train:
  epocs: 5
  batch_size: 1e3
  batch_size: 3
  deterministic: yes
  dataset: {npz: nope.npz}
restart: {grow: 3}
timeouts: {stop: 10}
"""
    assert told(tmp_path, text, "train.seed=x") == [
        (1, "name", "not allowed here"),
        (3, "hosts[0]", "neither `ssh:` nor `local: true`"),
        (4, "hosts[1]", "both `ssh:` and `local: true`"),
        (7, "hosts[2].gpuz", "unknown key"),
        (10, "host_defaults.threads", "not a whole number"),
        (12, "train.epocs", "unknown key"),
        (13, "train.batch_size", "not a whole number"),
        (14, "train.batch_size", "the key is given twice"),
        (15, "train.deterministic", "neither true nor false"),
        (16, "train.dataset.npz", "no such file"),
        (17, "restart.grow", "not known"),
        (18, "timeouts.stop", "no unit"),
        (0, "train.seed", "not a whole number"),
    ]


@pytest.mark.parametrize(
    ("rest", "line", "path", "message"),
    [
        ("hosts: [a, b]\ncheckpoint: {copies: 3}", 3, "checkpoint.copies", "3 copies for 2 hosts"),
        ("hosts: [a, b]\nrestart: {spares: 2}", 3, "restart.spares", "2 of 2 hosts in reserve"),
        (
            "hosts: [a, b]\nrestart: {min_workers: 3}",
            3,
            "restart.min_workers",
            "3 workers, and the hosts at work have 2",
        ),
        (
            "hosts: [a, b]\nrestart: {min_workers: 2, spares: 1}",
            3,
            "restart.min_workers",
            "2 workers, and the hosts at work have 1",
        ),
        ("hosts: [a]\nrestart: {grow: always}", 3, "restart.grow", "not known"),
        ("hosts: []", 2, "hosts", "no hosts"),
        ("hosts: gpu-a", 2, "hosts", "not a list"),
        ("hosts: [../x]", 2, "hosts[0]", "not allowed here"),
        ("hosts: [-oProxyCommand=x]", 2, "hosts[0]", "not allowed here"),
        ("hosts: [{name: .., ssh: a}]", 2, "hosts[0].name", "not allowed here"),
        ("hosts: [{name: a/b, ssh: a}]", 2, "hosts[0].name", "not allowed here"),
        ('hosts: [{name: "a\\nb", ssh: a}]', 2, "hosts[0].name", "not allowed here"),
        ("hosts: [a, b, a]", 2, "hosts[2]", "the name `a` is taken by hosts[0]"),
        ("hosts: [{ssh: {user: me}}]", 2, "hosts[0].ssh", "neither an alias nor a host"),
        ("hosts: [{ssh: {host: fe80::1}}]", 2, "hosts[0].name", "missing, and the address cannot be a name"),
        ("hosts: [{ssh: {host: -oX}}]", 2, "hosts[0].ssh.host", "not allowed here"),
        ("hosts: [{ssh: a, workers: 2, gpus_per_worker: 2}]", 2, "hosts[0].gpus_per_worker", "given together"),
        (
            "hosts: [a]\nhost_defaults: {workers: 2, gpus_per_worker: 2}",
            3,
            "host_defaults.gpus_per_worker",
            "given tog",
        ),
        ("hosts: [{ssh: a, gpus: 3, workers: 2}]", 2, "hosts[0]", "3 GPUs cannot be split evenly among 2 workers"),
        ("hosts: [{ssh: a, gpus: 6, gpus_per_worker: 4}]", 2, "hosts[0]", "6 GPUs do not make workers of 4 each"),
        ("hosts: [{ssh: a, gpus: 4}, {ssh: b, gpus: [0, 1]}]", 2, "hosts[1]", "2 GPUs for each worker"),
        ("hosts: [{ssh: a, gpus: [0, 0]}]", 2, "hosts[0].gpus", "a GPU is named twice"),
        ("hosts: [{ssh: a, gpus: some}]", 2, "hosts[0].gpus", "not known"),
        ("hosts: [{ssh: a, ports: 80-90}]", 2, "hosts[0].ports", "out of range"),
        ("hosts: [{ssh: a, ports: 3000-2000}]", 2, "hosts[0].ports", "the range ends before it begins"),
        ("hosts: [{ssh: a, ports: 2000-2001, workers: 3}]", 2, "hosts[0].ports", "2 ports for 3 workers"),
        (
            "hosts: [{ssh: a, workers: 3}]\nhost_defaults:\n  ports: 2000-2001",
            4,
            "host_defaults.ports",
            "2 ports for 3 workers",
        ),
        (
            "hosts: [{local: true}, {name: b, local: true}]\nhost_defaults: {ports: 2000}",
            2,
            "hosts[1]",
            "1 ports for 2 workers on this machine",
        ),
        ("hosts: [{ssh: a, network: 10.0.0.1/24}]", 2, "hosts[0].network", "an address within a network"),
        ("hosts: [{ssh: a, env: {A B: c}}]", 2, 'hosts[0].env."A B"', "not allowed here"),
        ("hosts: [{ssh: a, env: {TF_CONFIG: c}}]", 2, "hosts[0].env.TF_CONFIG", "`TF_CONFIG` is set by the launcher"),
        ("hosts: [{ssh: a, env: {A: }}]", 2, "hosts[0].env.A", "not text"),
        ("hosts: [a]\nprogram: [x]\ntrain:\n  epochs: 1", 3, "program", "both `train` and `program`"),
        ("hosts: [a]\nprogram: python train.py", 3, "program", "not a mapping"),
        ("hosts: [a]\nprogram: {}", 3, "program.argv", "missing"),
        ("hosts: [a]\nprogram: [python, ]\nsecrets: [A, A]", 4, "secrets[1]", "`A` is named twice"),
        ("hosts: [a]\nhost_defaults: {env: {A: b}}\nsecrets: [A]", 4, "secrets[0]", "`A` is in `env`, too"),
        ("hosts: [a]\nsecrets: [LAUNCHER_RANK]", 3, "secrets", "`LAUNCHER_RANK` is set by the launcher"),
        ("hosts: [a]\ntrain: {dataset: fashion}", 3, "train.dataset", "not known"),
        ("hosts: [a]\ntrain: {dataset: {npz: a, idx: b}}", 3, "train.dataset", "more than one source"),
        ("hosts: [a]\ntrain: {dataset: {npz: .}}", 3, "train.dataset.npz", "not a file"),
        ("hosts: [a]\ntrain: {dataset: {idx: cluster.yaml}}", 3, "train.dataset.idx", "not a folder"),
        (
            "hosts: [a]\ntrain: {learning_rate: 1, optimizer: {learning_rate: 1}}",
            3,
            "train.learning_rate",
            "given twice",
        ),
        ("hosts: [{ssh: a, workers: 4}]\ntrain: {batch_size: 3}", 3, "train.batch_size", "3 images for 4 workers"),
        ("hosts: [a]\nsync: {source: nowhere}", 3, "sync.source", "no such folder"),
        ("hosts: [a]\ncheckpoint: {every: [1 epoch, 2 epochs]}", 3, "checkpoint.every", "epochs are given twice"),
        ("hosts: [a]\nepochs: 3", 3, "epochs", "unknown key"),
        ("hosts: [a]\n<<: {}", 3, "the file", "merge keys (`<<`) are not taken"),
        ("hosts: [a]\ntrain: !!map {}", 3, "train", 'the tag "tag:yaml.org,2002:map" is not taken'),
        ("hosts: &h [*h]", 2, "hosts[0]", 'the alias "*h" stands inside of what it names'),
        ("hosts: [a]\n---\n", 3, "the file", "a second document begins here"),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(
    tmp_path: Path, rest: str, line: int, path: str, message: str
) -> None:
    ((at, where, what),) = told(tmp_path, f"name: a\n{rest}\n")
    assert (at, where) == (line, path)
    assert what.startswith(message)


def test_needed_keys_are_missed_and_a_key_with_nothing_after_it_is_none(tmp_path: Path) -> None:
    assert told(tmp_path, "train:\n") == [(1, "name", "missing"), (1, "hosts", "missing")]
    assert read(tmp_path, f"name: a\n{HERE}train:\nsync:\n").train == TrainSpec()


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("nmae: a", "did you mean `name`?"),
        ("epochs: 3", "`epochs` stands under train"),
        ("exclude: [a]", "`exclude` stands under sync"),
        ("zzz: 3", ""),
    ],
)
def test_an_unknown_key_brings_a_guess(tmp_path: Path, key: str, hint: str) -> None:
    (problem,) = problems(tmp_path, f"name: a\n{HERE}{key}\n")
    assert (problem.message, problem.hint) == ("unknown key", hint)
    assert "host_defaults" in problem.expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- a\n", "not a mapping"),
        ("name: é".encode("latin-1"), "not UTF-8"),
        ("name: a".encode("utf-16"), "not UTF-8"),
        (b"name: a\n\tb: c\n", "not valid YAML: found character '\\t' that cannot start any token"),
        (b"name: a\x00\n", "not valid YAML: the character U+0000 is not allowed in YAML"),
        (b"#" * (256 * 1024 + 1), "too large"),
    ],
)
def test_a_file_that_is_no_spec_is_told_with_the_next_step(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.message.startswith(message)
    assert problem.expected or problem.hint or caught.value.hint or "U+0000" in problem.message


def test_a_missing_file_is_told_by_the_name_that_was_given() -> None:
    with pytest.raises(SpecError) as caught:
        load(Path("no such/cluster.yaml"))
    (problem,) = caught.value.problems
    assert (problem.where, problem.message) == ("no such/cluster.yaml", "no such file")
    assert "launcher init" in caught.value.hint


def test_a_thousand_problems_are_told_by_the_hundred(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, f"name: a\n{HERE}" + "".join(f"k{n}: v\n" for n in range(1000)))
    assert len(caught.value.problems) == 100
    assert "900 more" in caught.value.hint
