"""What a cluster.yaml means once it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec import load
from launcher.spec.model import (
    CheckpointSpec,
    DatasetSpec,
    HostSpec,
    ProgramSpec,
    Ssh,
    Timeouts,
    TrainSpec,
)
from tests.unit.spec_reading import HERE, problems, read, told

ROOT = Path(__file__).parents[2]


def test_the_least_spec_has_every_default(tmp_path: Path) -> None:
    spec = read(tmp_path, "name: a\nhosts: [localhost]\n")
    assert spec.path == str(tmp_path / "cluster.yaml")
    assert spec.name == "a"
    assert spec.hosts == (HostSpec("localhost", local=True),)
    assert spec.train == TrainSpec()
    assert spec.program is None
    assert spec.checkpoint == CheckpointSpec()
    assert spec.timeouts == Timeouts()
    assert spec.secrets == ()
    assert (spec.sync.source, spec.sync.exclude, spec.sync.max_bytes) == (str(tmp_path), (), 200_000_000)
    assert spec.coordinator.runs == "/home/me/launcher-runs"


def test_the_default_cluster_is_two_workers_on_this_machine() -> None:
    spec = load(ROOT / "cluster.yaml", environ={"HOME": "/home/me"})
    assert spec.hosts == (HostSpec("here", local=True, workers=2, gpus=0),)
    assert spec.train == TrainSpec()


def test_every_available_key_arrives(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "src").mkdir()
    spec = read(
        tmp_path,
        """\
name: a-1
hosts:
  - gpu-a
  - name: b
    ssh: {host: 10.0.0.12, user: me, port: 2222, key: keys/id, jump: gate}
    gpus: [3, 1]
    workers: 2
    threads: 4
    address: 10.0.0.5
    ports: 30000-30001
    env: {NCCL_DEBUG: INFO, VERSION: 3.10, FLAG: true, EMPTY: "", WORD: "yes"}
host_defaults: {gpus_per_worker: 1, threads: 8, network: 10.0.0.0/24, python: ~/venv/bin/python,
  env: {A: 1, NCCL_DEBUG: WARN}}
sync: {source: src, exclude: [data/, "*.ckpt"], max: 1.5 GiB}
secrets: [WANDB_API_KEY]
train:
  dataset: {idx: data}
  epochs: 7
  batch_size: 128
  optimizer: {name: adam, learning_rate: 1e-2}
  seed: 3
  deterministic: false
  communication: ring
checkpoint: {every: [2 epochs, 100 steps, 1 h 30 min], keep: 9, copies: 2}
timeouts: {connect: 1 s, start: 2 min, stall: 500 ms, checkpoint: 1.5 h, stop: 3 sec, lease: 2 days}
coordinator: {runs: my runs}
""",
    )
    assert spec.hosts == (
        HostSpec(
            "gpu-a",
            ssh=Ssh(alias="gpu-a"),
            gpus_per_worker=1,
            threads=8,
            network="10.0.0.0/24",
            python="~/venv/bin/python",
            env={"A": "1", "NCCL_DEBUG": "WARN"},
        ),
        HostSpec(
            "b",
            ssh=Ssh(host="10.0.0.12", user="me", port=2222, key=str(tmp_path / "keys/id"), jump="gate"),
            gpus=(3, 1),
            workers=2,
            threads=4,
            network="10.0.0.0/24",
            address="10.0.0.5",
            ports=(30000, 30001),
            python="~/venv/bin/python",
            env={"A": "1", "NCCL_DEBUG": "INFO", "VERSION": "3.10", "FLAG": "true", "EMPTY": "", "WORD": "yes"},
        ),
    )
    assert (spec.sync.source, spec.sync.exclude) == (str(tmp_path / "src"), ("data/", "*.ckpt"))
    assert spec.sync.max_bytes == 3 * 2**29
    assert spec.secrets == ("WANDB_API_KEY",)
    assert spec.train == TrainSpec(
        dataset=DatasetSpec("idx", str(tmp_path / "data")),
        epochs=7,
        batch_size=128,
        learning_rate=0.01,
        seed=3,
        deterministic=False,
        communication="ring",
    )
    assert spec.checkpoint == CheckpointSpec(2, 100, 5400.0, 9, copies=2)
    assert spec.timeouts == Timeouts(1.0, 120.0, 0.5, Timeouts.host, 5400.0, 3.0, 172800.0)
    assert spec.coordinator.runs == str(tmp_path / "my runs")


def test_text_is_plain_text_all_through(tmp_path: Path) -> None:
    spec = read(tmp_path, "name: a\nhosts: [{name: x, local: true, env: {A: b}}]\nprogram: [python, 1.10, true]\n")
    assert spec.program == ProgramSpec(("python", "1.10", "true"))
    values = [spec.name, spec.hosts[0].name, *spec.hosts[0].env, *spec.hosts[0].env.values(), *spec.program.argv]
    assert {type(value) for value in values} == {str}


@pytest.mark.parametrize("program", ["[python, train.py]", "{argv: [python, train.py]}"])
def test_a_program_takes_the_place_of_the_trainer(tmp_path: Path, program: str) -> None:
    spec = read(tmp_path, f"name: a\n{HERE}program: {program}\n")
    assert (spec.train, spec.program) == (None, ProgramSpec(("python", "train.py")))


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("1 epoch", CheckpointSpec(1, None, None)),
        ("3", CheckpointSpec(3, None, None)),
        ("100 steps", CheckpointSpec(None, 100, None)),
        ("10 min", CheckpointSpec(None, None, 600.0)),
        ("[10 min, 1 epoch]", CheckpointSpec(1, None, 600.0)),
    ],
)
def test_checkpoints_are_due_by_epochs_steps_or_time(tmp_path: Path, every: str, expected: CheckpointSpec) -> None:
    assert read(tmp_path, f"name: a\n{HERE}checkpoint: {{every: {every}}}\n").checkpoint == expected


def test_a_host_chooses_between_workers_and_gpus_per_worker_for_itself(tmp_path: Path) -> None:
    spec = read(tmp_path, "name: a\nhosts: [{ssh: x, workers: 2}, {ssh: y}]\nhost_defaults: {gpus_per_worker: 4}\n")
    assert [(host.workers, host.gpus_per_worker) for host in spec.hosts] == [(2, None), (None, 4)]


def test_runs_are_kept_where_the_spec_says_else_the_environment(tmp_path: Path) -> None:
    least = f"name: a\n{HERE}"
    assert read(tmp_path, least, LAUNCHER_RUNS="/r").coordinator.runs == "/r"
    assert read(tmp_path, least, LAUNCHER_RUNS="r").coordinator.runs == str(Path.cwd() / "r")
    assert read(tmp_path, least, LAUNCHER_RUNS="").coordinator.runs == "/home/me/launcher-runs"
    assert read(tmp_path, f"{least}coordinator: {{runs: ~/x}}", LAUNCHER_RUNS="/r").coordinator.runs == "/home/me/x"


def test_hosts_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "hosts.yaml").write_text("- gpu-a\n- {name: b, ssh: {host: h, key: id}}\n")
    spec = read(tmp_path, "name: a\nhosts: {file: shared/hosts.yaml}\n", "hosts[1].threads=3")
    assert [host.name for host in spec.hosts] == ["gpu-a", "b"]
    assert spec.hosts[1].threads == 3
    assert spec.hosts[1].ssh == Ssh(host="h", key=str(tmp_path / "shared" / "id"))


def test_a_hosts_file_has_lines_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "hosts.yaml").write_text("- gpu-a\n- name: b\n  ssh: x\n  gpuz: 3\n")
    (problem,) = problems(tmp_path, "name: a\nhosts: {file: hosts.yaml}\n")
    assert (problem.where, problem.path, problem.hint) == ("hosts.yaml:4", "hosts[1].gpuz", "did you mean `gpus`?")


@pytest.mark.parametrize("content", [None, "a: b\n", "", "[", "- a\n- *x\n"])
def test_a_hosts_file_that_is_none_is_told_with_all_else(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "hosts.yaml").write_text(content)
    found = problems(tmp_path, "name: A\nhosts: {file: hosts.yaml}\n")
    assert len(found) == 2
    assert {problem.path.split(".")[0].split("[")[0] for problem in found} == {"name", "hosts"}


def test_a_copy_means_what_the_original_meant_when_told_its_folder(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "data").mkdir()
    text = f"name: a\n{HERE}train: {{dataset: {{idx: data}}}}\n"
    original = read(tmp_path, text)
    (tmp_path / "copy" / "cluster.yaml").write_text(text)
    copy = load(tmp_path / "copy" / "cluster.yaml", environ={"HOME": "/home/me"}, base=tmp_path)
    assert (copy.train, copy.sync) == (original.train, original.sync)


def test_anchors_are_taken_and_told_at_the_line_of_their_use(tmp_path: Path) -> None:
    text = "name: a\nhosts:\n  - {ssh: x, env: &e {A: b}}\n  - ssh: y\n    env: *e\n"
    assert [host.env for host in read(tmp_path, text).hosts] == [{"A": "b"}] * 2
    twice = "name: a\nhosts:\n  - {ssh: x, threads: &t many}\n  - ssh: y\n    threads: *t\n"
    assert [line for line, _, _ in told(tmp_path, twice)] == [3, 5]


def test_a_path_with_odd_characters_works(tmp_path: Path) -> None:
    folder = tmp_path / "a 'b' \"c\"\nd"
    folder.mkdir()
    assert read(folder, f"name: a\n{HERE}").sync.source == str(folder)
    (folder / "cluster.yaml").write_text("nam: a")
    with pytest.raises(SpecError) as caught:
        load(folder / "cluster.yaml")
    assert all(problem.where.isprintable() for problem in caught.value.problems)
