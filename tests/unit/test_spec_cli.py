"""`launcher init` and `launcher schema`, as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from launcher.cli import app
from launcher.spec import json_schema, load
from launcher.spec.model import HostSpec, ProgramSpec, TrainSpec

STARTERS = Path(app.__file__).parent


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_init_writes_a_spec_that_loads_as_the_default_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["init"]) == 0
    spec = load(Path("cluster.yaml"))
    assert spec.hosts == (HostSpec("here", local=True, workers=2),)
    assert spec.train == TrainSpec()
    assert "launcher up cluster.yaml" in capsys.readouterr().out


def test_init_for_a_program_writes_a_spec_with_one() -> None:
    assert app.run(["init", "--program", "a 'b'.yaml"]) == 0
    spec = load(Path("a 'b'.yaml"))
    assert spec.train is None
    assert spec.program == ProgramSpec(("python", "train.py", "--batch-size", "64"))


@pytest.mark.parametrize("name", ["starter.yaml", "starter-program.yaml"])
def test_a_starter_still_loads_when_every_key_in_its_comments_is_put_in_force(name: str) -> None:
    text = (STARTERS / name).read_text()
    in_force, count = re.subn(r"^( *)# ( *(?:- )?[a-z_-]+(?::| {2}).*)$", r"\1\2", text, flags=re.M)
    assert count > 8
    Path("all.yaml").write_text(in_force)
    spec = load(Path("all.yaml"))
    assert [host.name for host in spec.hosts][:2] == ["here", "gpu-a"]
    assert spec.hosts[0].env == {"NCCL_DEBUG": "WARN"}
    assert (spec.secrets, spec.timeouts.lease) == (("WANDB_API_KEY",), 86400.0)


def test_init_replaces_nothing_unless_forced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cluster.yaml").write_text("mine")
    assert app.run(["init"]) == 2
    assert Path("cluster.yaml").read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert app.run(["init", "--force"]) == 0
    load(Path("cluster.yaml"))
    assert [path.name for path in Path().iterdir()] == ["cluster.yaml"]


@pytest.mark.parametrize("path", ["no/such/folder.yaml", ".", "x" * 300])
def test_init_that_cannot_write_says_so_and_leaves_nothing(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["init", path, "--force"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_schema_prints_what_editors_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema.json_schema()


@pytest.mark.parametrize("verb", ["init", "schema"])
def test_help_teaches_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([verb, "--help"]) == 0
    assert f"launcher {verb}" in capsys.readouterr().out.partition("Example:")[2]
