"""The schema is the one source: of the JSON Schema, of docs/spec.md, and of what is not available yet."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.errors import SpecError
from launcher.spec import json_schema, load, reference
from launcher.spec.later import LATER
from launcher.spec.problems import model_at
from tests.unit.spec_documents import EVERY_KEY

ROOT = Path(__file__).parents[2]
UPDATE = "run `python -m launcher.spec.reference`"


def test_the_json_schema_that_is_checked_in_is_current() -> None:
    assert json.loads(json_schema.CHECKED_IN.read_text(encoding="utf-8")) == json_schema.json_schema(), UPDATE


def test_the_page_about_the_spec_is_current() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), UPDATE


def test_every_later_key_is_in_the_schema() -> None:
    for path in LATER:
        *way, key = path.split(".")
        loc: list[str | int] = []
        for part in way:
            loc += [part.removesuffix("[]"), 0] if part.endswith("[]") else [part]
        model = model_at(tuple(loc))
        assert model is not None, path
        assert key in model.model_fields, path


def test_every_key_of_the_spec_is_known_and_the_later_ones_are_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(EVERY_KEY)
    with pytest.raises(SpecError) as caught:
        load(path, environ={"HOME": "/"})
    later = {problem.path for problem in caught.value.problems if problem.message == "not available yet"}
    others = {problem.message for problem in caught.value.problems} - {"not available yet"}
    whole_keys = {
        key for key, values in LATER.items() if values is None and "[]" not in key and key != "train.dataset.function"
    }
    assert later == whole_keys
    assert "unknown key" not in others


@pytest.mark.parametrize(
    "line",
    [
        "program: {argv: [python, a.py], mirrored: extend}",
    ],
)
def test_a_later_value_is_refused_as_such(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"name: a\n{line}\n" + ("" if line.startswith("hosts") else "hosts: [a]\n"))
    with pytest.raises(SpecError) as caught:
        load(path)
    assert [(problem.where, problem.message) for problem in caught.value.problems] == [
        (f"{path}:2", "not available yet")
    ]


def test_every_key_has_prose_and_every_example_in_it_is_yaml() -> None:
    def visit(node: dict[str, Any]) -> None:
        for name, inner in node.get("properties", {}).items():
            if name != "file":
                assert inner.get("description"), name

    schema = json_schema.json_schema()
    for node in (schema, *schema["$defs"].values()):
        visit(node)
        assert node.get("additionalProperties") is False


def test_examples_of_keys_are_taken_by_the_loader(tmp_path: Path) -> None:
    """Each example in the schema of `train` and `checkpoint`, `timeouts` and hosts, one at a time."""
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    (tmp_path / "data" / "mine.npz").touch()
    path = tmp_path / "cluster.yaml"
    sections = ["host_defaults", "sync", "train", "checkpoint", "timeouts", "coordinator"]
    tried = 0
    for section in sections:
        model = model_at((section,))
        assert model is not None
        for key, field in model.model_fields.items():
            if f"{section}.{key}" in LATER and LATER[f"{section}.{key}"] is None:
                continue
            default = field.default if field.default is not None else []
            for example in [*(field.examples or []), *([default] if default != [] else [])]:
                text = str(example).lower() if isinstance(example, bool) else str(example)
                path.write_text(f"name: a\nhosts: [a, b]\n{section}: {{{key}: {text}}}\n")
                load(path, environ={"HOME": "/"})
                tried += 1
    assert tried > 30


def test_the_plain_values_need_no_library() -> None:
    code = (
        "import launcher.spec, launcher.spec.model, sys; print([m for m in ('pydantic', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_loading_is_quick_once_the_libraries_are_there(tmp_path: Path) -> None:
    load(ROOT / "cluster.yaml")
    hosts = "".join(f"  - {{name: h{n}, ssh: {{host: 10.0.0.{n}, user: me}}, gpus: 4}}\n" for n in range(50))
    path = tmp_path / "cluster.yaml"
    path.write_text(f"name: a\nhosts:\n{hosts}")
    times = []
    for _ in range(3):
        began = time.process_time()
        assert len(load(path).hosts) == 50
        times.append(time.process_time() - began)
    assert min(times) < 0.5


def test_the_json_schema_allows_what_the_starters_say() -> None:
    """A check of the keys alone, without a library for JSON Schema."""
    schema = json_schema.json_schema()
    for name in ("starter.yaml", "starter-program.yaml"):
        document = yaml.safe_load((ROOT / "launcher" / "cli" / name).read_text())
        assert set(document) <= set(schema["properties"])
        assert set(schema["required"]) <= set(document)
