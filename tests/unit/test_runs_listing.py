"""A run is found by its name, a prefix or its path, wherever runs were ever kept; a doubt is an error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest

from launcher.errors import RunError, UsageError
from launcher.runs.folder import RunFolder
from launcher.runs.listing import (
    all_runs,
    default_runs_folder,
    find,
    index_path,
    known_folders,
    make_run_folder,
    new_run_name,
    remember,
)
from tests.fake_run import FakeRun, everybody, nobody

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def make(runs: Path, name: str, at: float) -> FakeRun:
    run = FakeRun(runs, name)
    run.now += at
    return run.created()


def test_runs_are_kept_in_the_home_unless_the_environment_says_where(tmp_path: Path) -> None:
    assert default_runs_folder({"HOME": "/home/me"}) == Path("/home/me/launcher-runs")
    assert default_runs_folder({"HOME": "/home/me", "LAUNCHER_RUNS": str(tmp_path)}) == tmp_path


def test_runs_are_listed_newest_first_over_all_folders_and_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path / "one", "a-1", 0)
    make(tmp_path / "two", "b-1", 20)
    make(tmp_path / "one", "c-1", 10)
    (tmp_path / "one" / "no-run").mkdir()
    (tmp_path / "one" / "file").write_text("x")
    (tmp_path / "one" / "corrupt").mkdir()
    (tmp_path / "one" / "corrupt" / "events.jsonl").write_bytes(b"\xff" * 100)
    found = all_runs([tmp_path / "one", tmp_path / "two", tmp_path / "missing"])
    assert [run.folder.name for run in found] == ["b-1", "c-1", "a-1"]


def test_a_run_is_found_by_name_by_prefix_and_by_path(tmp_path: Path) -> None:
    make(tmp_path, "mnist-20260102-030405", 0)
    make(tmp_path, "mnist-20260102-030405-2", 5)
    make(tmp_path, "other-20260102-030405", 10)
    folders = [tmp_path]
    assert find("mnist-20260102-030405", folders, for_reading=True).name == "mnist-20260102-030405"
    assert find("oth", folders, for_reading=False).name == "other-20260102-030405"
    path = tmp_path / "mnist-20260102-030405-2"
    assert find(str(path), [], for_reading=False) == RunFolder(path)
    assert find(f"{path}/", [], for_reading=False) == RunFolder(path)


def test_an_ambiguous_or_unknown_name_is_an_error_that_lists_the_candidates(tmp_path: Path) -> None:
    make(tmp_path, "mnist-1", 0)
    make(tmp_path, "mnist-2", 5)
    make(tmp_path, "other-1", 5)
    with pytest.raises(UsageError, match="2 runs match 'mn'") as ambiguous:
        find("mn", [tmp_path], for_reading=True)
    assert "mnist-1" in ambiguous.value.message
    assert "other-1" not in ambiguous.value.message
    with pytest.raises(UsageError, match="no run is called 'x'") as unknown:
        find("x", [tmp_path], for_reading=True)
    assert "other-1" in unknown.value.message
    with pytest.raises(UsageError, match="holds no run"):
        find(str(tmp_path), [tmp_path], for_reading=True)


def test_the_newest_run_is_a_default_for_reading_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        find(None, [tmp_path], for_reading=True)
    make(tmp_path, "old", 0).started().trained()
    make(tmp_path, "new", 500).started().first_step()
    assert find(None, [tmp_path], for_reading=True).name == "new"
    assert find(None, [tmp_path], for_reading=False, probe=everybody).name == "new"
    with pytest.raises(UsageError, match="no run is alive"):
        find(None, [tmp_path], for_reading=False, probe=nobody)
    make(tmp_path, "newer", 900).started().first_step()
    with pytest.raises(UsageError, match="2 runs are alive") as two:
        find(None, [tmp_path], for_reading=False, probe=everybody)
    assert "newer" in two.value.message


def test_folders_once_used_are_remembered_whatever_their_names_hold(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    hostile = tmp_path / "runs 'of'\n\"mine\""
    hostile.mkdir()
    for _ in range(2):
        remember(hostile, environ)
    index = index_path(environ)
    assert index == tmp_path / "state/launcher/folders"
    assert len(index.read_bytes().splitlines()) == 1
    with open(index, "ab") as file:
        file.write(b'\xff\xfe\n"relative"\n[1]\n' + b"[" * 100_000 + b"\n")
    assert known_folders(environ) == (tmp_path / "launcher-runs", hostile)


def test_an_index_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, no folder")
    environ = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    remember(tmp_path, environ)
    assert known_folders(environ) == (tmp_path / "launcher-runs",)


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_run_folder(tmp_path / "runs", "fashion-cnn", NOW), range(8)))
    name = "fashion-cnn-20260102-030405"
    assert new_run_name("fashion-cnn", NOW) == name
    assert {folder.name for folder in made} == {name, *(f"{name}-{i}" for i in range(2, 9))}
    assert made[0].path.stat().st_mode & 0o777 == 0o700


def test_a_runs_folder_that_cannot_be_made_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write") as error:
        make_run_folder(tmp_path / "file", "x", NOW)
    assert error.value.hint
