"""Imports point one way: the flow of a run, from the spec to the verbs; hosts' code never knows the coordinator."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each room of the coordinator and what it may import besides itself, `errors`, `version` and the shared contract.
MAY_IMPORT = {
    "spec": set(),
    "plan": {"spec"},
    "hosts": {"spec", "plan"},
    "runs": {"spec", "plan"},
    "stage": {"spec", "plan", "hosts", "runs"},
    "check": {"spec", "plan", "hosts", "runs"},
    "gather": {"spec", "plan", "hosts", "runs"},
    "supervise": {"spec", "plan", "hosts", "runs", "stage", "check", "gather"},
    "view": {"spec", "plan", "hosts", "runs", "stage", "check", "gather", "supervise"},
    "cli": {"spec", "plan", "hosts", "runs", "stage", "check", "gather", "supervise", "view"},
}
PURE = ["launcher/spec/model.py", "launcher/plan", "launcher/supervise/core", "worker/agent/core.py"]
IMPURE = {"socket", "subprocess", "threading", "time", "os", "select", "selectors", "signal", "asyncio"}
NAMES_ONLY = {"launcher/supervise/core/causes.py imports signal"}  # of signals, to tell them to a person


def modules(folder: str) -> Iterator[Path]:
    path = ROOT / folder
    yield from [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """The absolute names of every module that a file imports, anywhere in it."""
    package = path.relative_to(ROOT).with_suffix("").parts
    package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module or "") if part)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_of_the_coordinator_imports_only_what_comes_before_it(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room, "errors", "version"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(f"launcher/{room}")
        for name in imports(path)
        if name.startswith("launcher.") and name.split(".")[1] not in allowed
    ]
    assert wrong == []


def test_the_coordinator_imports_nothing_of_the_worker_but_the_contract() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("launcher")
        for name in imports(path)
        if name == "worker" or (name.startswith("worker.") and not name.startswith("worker.contract"))
    ]
    assert [w for w in wrong if not w.endswith("imports worker")] == []


def test_the_worker_never_imports_the_coordinator() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("worker")
        for name in imports(path)
        if name.split(".")[0] == "launcher"
    ]
    assert wrong == []


def test_the_worker_imports_itself_by_relative_names_only() -> None:
    wrong = []
    for path in modules("worker"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno}" for n in names if n.split(".")[0] == "worker"]  # type: ignore[attr-defined]
    assert wrong == []


@pytest.mark.parametrize(
    ("library", "home"), [("paramiko", "launcher/hosts/"), ("tensorflow", "worker/"), ("keras", "worker/")]
)
def test_a_heavy_library_has_one_home(library: str, home: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}"
        for folder in ("launcher", "worker")
        for path in modules(folder)
        for name in imports(path)
        if name.split(".")[0] == library and not str(path.relative_to(ROOT)).startswith(home)
    ]
    assert wrong == []


@pytest.mark.parametrize("place", PURE)
def test_the_pure_core_imports_no_clock_process_or_socket(place: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(place)
        for name in imports(path)
        if name.split(".")[0] in IMPURE
    ]
    assert set(wrong) <= NAMES_ONLY


def test_agent_and_contract_need_only_the_standard_library() -> None:
    third = {"numpy", "tensorflow", "keras", "yaml", "pydantic", "rich", "typer", "paramiko", "matplotlib"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("worker/agent", "worker/contract", "worker/errands")
        for path in modules(folder)
        for name in imports(path)
        if name.split(".")[0] in third
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "place",
    ["worker/__main__.py", "worker/door.py", "worker/verbs.py", "worker/agent", "worker/contract", "worker/errands"],
)
def test_what_runs_under_a_hosts_own_python_parses_as_python_3_8(place: str) -> None:
    for path in modules(place):
        ast.parse(path.read_text(), filename=str(path), feature_version=(3, 8))
