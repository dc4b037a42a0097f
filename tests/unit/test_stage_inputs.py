"""What a setup depends on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.spec.model import SyncSpec
from launcher.stage import survey
from launcher.stage.hashes import Hashes
from launcher.stage.inputs import setup_inputs

FILES = {
    "requirements.txt": "-r more/base.txt\ntensorflow\n",
    "more/base.txt": "--constraint=limits.txt\nnumpy\n",
    "more/limits.txt": "numpy<3\n",
    "pyproject.toml": "[project]",
    "src/pkg/__init__.py": "",
    "wheels/a.whl": "1",
    "train.py": "1",
    "Makefile": "all:",
}


class Job:
    def __init__(self, root: Path) -> None:
        self.root = root / "job"
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def inputs(self, *commands: str) -> str:
        return setup_inputs(commands, None, None, survey.sources(SyncSpec(str(self.root)), self.root / "runs"))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Job(tmp_path)


@pytest.mark.parametrize(
    ("command", "counts"),
    [
        ("pip install -r requirements.txt", {"requirements.txt", "more/base.txt", "more/limits.txt"}),
        ("pip install -rrequirements.txt", {"requirements.txt", "more/base.txt", "more/limits.txt"}),
        ("pip install --requirement=./requirements.txt", {"requirements.txt", "more/base.txt", "more/limits.txt"}),
        ("pip install wheels/*.whl", {"wheels/a.whl"}),
        ("cd more && make", {"more/base.txt", "more/limits.txt"}),
        ("pip install -e .", set(FILES)),
        ("pip install -e '.[dev,gpu]'", set(FILES)),
        ("pip install ./src", {"src/pkg/__init__.py"}),
        ("make", set()),
        ("echo 'unbalanced", set()),
        ("cat /train.py ../train.py ~/train.py", set()),
    ],
)
def test_what_the_commands_name_counts_and_nothing_else(command: str, counts: set[str], job: Job) -> None:
    before = job.inputs(command)
    assert job.inputs(command) == before
    for name, text in FILES.items():
        job.write(name, text + "\n# changed")
        assert (job.inputs(command) != before) == (name in counts), name
        job.write(name, text)
    assert job.inputs(command) == before


def test_commands_python_and_activate_count(job: Job) -> None:
    tree = survey.sources(SyncSpec(str(job.root)), job.root / "runs")
    found = {
        setup_inputs(("a",), None, None, tree),
        setup_inputs(("b",), None, None, tree),
        setup_inputs(("a", "b"), None, None, tree),
        setup_inputs(("a",), "c", None, tree),
        setup_inputs(("a",), None, "c", tree),
    }
    assert len(found) == 5
    assert setup_inputs(("a",), None, None, None) == setup_inputs(("a",), None, None, tree)


def test_a_link_that_is_named_counts_with_what_it_points_to(job: Job) -> None:
    (job.root / "req").symlink_to("requirements.txt")
    before = job.inputs("pip install -r req")
    job.write("requirements.txt", "keras")
    assert job.inputs("pip install -r req") != before


# The memory of hashes


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("launcher.stage.hashes._FRESH_NS", 0)
    reads: list[str] = []
    read = Hashes._read_file

    def counted(self: Hashes, whole: Path, path: str, size: int) -> str:
        reads.append(path)
        return read(self, whole, path, size)

    monkeypatch.setattr(Hashes, "_read_file", counted)
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "a").write_text("1")

    def hashed() -> str:
        hashes = Hashes(folder)
        found = hashes.of("a", 1)
        hashes.save()
        return found

    first = hashed()
    assert hashed() == first
    assert reads == ["a"]
    about = (folder / "a").stat()
    (folder / "a").write_text("2")
    os.utime(folder / "a", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert hashed() != first
    assert reads == ["a", "a"]
    for damage in ("", "[]", '{"a": 1}'):
        next((tmp_path / "cache" / "launcher" / "hashes").iterdir()).write_text(damage)
        assert hashed() == hashed() != first


def test_a_file_that_has_just_changed_is_read_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a").write_text("1")
    hashes = Hashes(tmp_path)
    hashes.of("a", 1)
    assert hashes._used == {}
