"""Reading a spec in a test: what it means, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import Problem, SpecError
from launcher.spec import load
from launcher.spec.model import ClusterSpec

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
