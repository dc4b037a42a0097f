"""What a cluster.yaml means once it is read, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import Problem, SpecError
from launcher.spec import load
from launcher.spec.model import (
    CheckpointSpec,
    ClusterSpec,
    DatasetSpec,
    HostSpec,
    ProgramSpec,
    Ssh,
    Timeouts,
    TrainSpec,
)

ROOT = Path(__file__).parents[2]
HERE = "hosts: [{name: here, local: true}]\n"


def read(tmp_path: Path, text: str, *settings: str, **environ: str) -> ClusterSpec:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return load(path, settings, environ={"HOME": "/home/me", **environ})


def problems(tmp_path: Path, text: str, *settings: str) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, text, *settings)
    return list(caught.value.problems)


def told(tmp_path: Path, text: str, *settings: str) -> list[tuple[int, str, str]]:
    """(line, path, message) of each problem; line 0 for --set."""
    found = []
    for problem in problems(tmp_path, text, *settings):
        assert problem.where.startswith((f"{tmp_path}/cluster.yaml", "--set "))
        _, _, line = problem.where.rpartition(":")
        found.append((int(line) if line.isdecimal() else 0, problem.path, problem.message))
    return found


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
    assert spec.hosts == (HostSpec("here", local=True, workers=2),)
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
checkpoint: {every: [2 epochs, 100 steps, 1 h 30 min], keep: 9}
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
    assert spec.checkpoint == CheckpointSpec(2, 100, 5400.0, 9)
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
restart: {max: 3}
timeouts: {stop: 10}
"""
    assert told(tmp_path, text, "train.seed=x") == [
        (1, "name", "not allowed here"),
        (3, "hosts[0]", "neither `ssh:` nor `local: true`"),
        (4, "hosts[1]", "both `ssh:` and `local: true`"),
        (7, "hosts[2].gpuz", "unknown key"),
        (9, "host_defaults.activate", "not available yet"),
        (10, "host_defaults.threads", "not a whole number"),
        (12, "train.epocs", "unknown key"),
        (13, "train.batch_size", "not a whole number"),
        (14, "train.batch_size", "the key is given twice"),
        (15, "train.deterministic", "neither true nor false"),
        (16, "train.dataset.npz", "no such file"),
        (17, "restart", "not available yet"),
        (18, "timeouts.stop", "no unit"),
        (0, "train.seed", "not a whole number"),
    ]


@pytest.mark.parametrize(
    ("rest", "line", "path", "message"),
    [
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


def test_anchors_are_taken_and_told_at_the_line_of_their_use(tmp_path: Path) -> None:
    text = "name: a\nhosts:\n  - {ssh: x, env: &e {A: b}}\n  - ssh: y\n    env: *e\n"
    assert [host.env for host in read(tmp_path, text).hosts] == [{"A": "b"}] * 2
    twice = "name: a\nhosts:\n  - {ssh: x, threads: &t many}\n  - ssh: y\n    threads: *t\n"
    assert [line for line, _, _ in told(tmp_path, twice)] == [3, 5]


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


def test_a_path_with_odd_characters_works(tmp_path: Path) -> None:
    folder = tmp_path / "a 'b' \"c\"\nd"
    folder.mkdir()
    assert read(folder, f"name: a\n{HERE}").sync.source == str(folder)
    (folder / "cluster.yaml").write_text("nam: a")
    with pytest.raises(SpecError) as caught:
        load(folder / "cluster.yaml")
    assert all(problem.where.isprintable() for problem in caught.value.problems)
