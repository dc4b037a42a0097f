"""How much memory there is to take: the machine's, or what a control group leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.contract.machine.memory import available

MB = 1 << 20


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       8388608 kB\nMemFree:         1024 kB\nMemAvailable:    4194304 kB\n")
    return path


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own"
    path.write_text(text)
    return path


def test_without_a_limit_it_is_the_machines(tmp_path: Path, meminfo: Path) -> None:
    group(tmp_path / "cg" / "a", memory__max="max\n", memory__current="5\n", memory__stat="")
    assert available(meminfo, tmp_path / "cg", own(tmp_path, "0::/a\n")) == 4096 * MB


def test_a_groups_limit_counts_and_files_in_memory_can_be_given_back(tmp_path: Path, meminfo: Path) -> None:
    stat = f"anon 1\ninactive_file {200 * MB}\n"
    group(tmp_path / "cg" / "a", memory__max=str(1000 * MB), memory__current=str(900 * MB), memory__stat=stat)
    group(tmp_path / "cg" / "a" / "b", memory__max="max\n", memory__current="5\n", memory__stat="")
    assert available(meminfo, tmp_path / "cg", own(tmp_path, "0::/a/b\n")) == 300 * MB


def test_version_1_of_control_groups(tmp_path: Path, meminfo: Path) -> None:
    group(
        tmp_path / "cg" / "memory" / "a",
        memory__limit_in_bytes=str(1000 * MB),
        memory__usage_in_bytes=str(1100 * MB),
        memory__stat="inactive_file 0\n",
    )
    assert available(meminfo, tmp_path / "cg", own(tmp_path, "4:memory:/a\n3:cpu:/a\n")) == 0


def test_where_nobody_says_it_is_unknown(tmp_path: Path) -> None:
    assert available(tmp_path / "none", tmp_path / "none", tmp_path / "none") is None
