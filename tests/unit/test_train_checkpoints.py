"""A checkpoint is whole or it is nothing: written under its name at the end, passed over when anything is wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.contract import checkpoints
from worker.train.checkpoint import Arrays, Checkpoint, CheckpointError, newest_complete, read, write

ARRAYS: Arrays = {
    "model/0/0.kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "epoch/correct": np.array(2**40, np.int64),
    "epoch/loss_sum": np.array(0.1, np.float64),
    "step": np.array(14, np.int64),
}


def a_checkpoint(step: int = 14, generation: int = 1, **arrays: Any) -> Checkpoint:
    state = {"history": [{"epoch": 1, "loss": float("nan")}], "name": 'a "quoted"\nname'}
    return Checkpoint(generation, step, 2, "every", {**ARRAYS, **arrays}, state)


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    name = write(str(tmp_path), a_checkpoint())
    found = read(str(tmp_path / name))
    assert name == "g1-s14"
    assert {key: (value.dtype, value.shape, value.tobytes()) for key, value in found.arrays.items()} == {
        key: (value.dtype, value.shape, value.tobytes()) for key, value in ARRAYS.items()
    }
    assert (found.generation, found.step, found.epoch, found.why) == (1, 14, 2, "every")
    assert found.state == {"history": [{"epoch": 1, "loss": None}], "name": 'a "quoted"\nname'}
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_equal_arrays_give_equal_files(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write(str(tmp_path / place), a_checkpoint())
    files = [(tmp_path / place / "g1-s14" / checkpoints.ARRAYS).read_bytes() for place in ("a", "b")]
    assert files[0] == files[1]


def test_python_objects_are_not_written_and_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write(str(tmp_path), a_checkpoint(bad=np.array([{}], dtype=object)))
    assert list(tmp_path.iterdir()) == []


def cut(folder: Path) -> None:
    path = folder / checkpoints.ARRAYS
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder: Path) -> None:
    path = folder / checkpoints.ARRAYS
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def empty(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, 0)


def link(folder: Path) -> None:
    (folder / checkpoints.STATE).rename(folder.parent / "elsewhere")
    (folder / checkpoints.STATE).symlink_to(folder.parent / "elsewhere")


def fifo(folder: Path) -> None:
    (folder / checkpoints.ARRAYS).unlink()
    os.mkfifo(folder / checkpoints.ARRAYS)


def deep(folder: Path) -> None:
    (folder / checkpoints.MANIFEST).write_text("[" * 100_000)


def other_step(folder: Path) -> None:
    manifest = json.loads((folder / checkpoints.MANIFEST).read_text())
    (folder / checkpoints.MANIFEST).write_text(json.dumps({**manifest, "step": 9999}))


def other_file(folder: Path) -> None:
    manifest = json.loads((folder / checkpoints.MANIFEST).read_text())
    manifest["files"]["../../etc/passwd"] = {"bytes": 0, "sha256": ""}
    (folder / checkpoints.MANIFEST).write_text(json.dumps(manifest))


def signed(folder: Path, content: bytes) -> None:
    """Put other arrays in, under a manifest that vouches for them."""
    (folder / checkpoints.ARRAYS).write_bytes(content)
    manifest = json.loads((folder / checkpoints.MANIFEST).read_text())
    manifest["files"][checkpoints.ARRAYS] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / checkpoints.MANIFEST).write_text(json.dumps(manifest))


def archive(member: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as file:
        file.writestr("step.npy", member)
    return made.getvalue()


def npy(array: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=True)
    return made.getvalue()


def pickled(folder: Path) -> None:
    signed(folder, archive(npy(np.array([{}], dtype=object))))


def bare_pickle(folder: Path) -> None:
    signed(folder, archive(pickle.dumps([1])))


def bomb(folder: Path) -> None:
    signed(folder, archive(npy(np.zeros(1_000_000)), zipfile.ZIP_DEFLATED))


def not_an_archive(folder: Path) -> None:
    signed(folder, b"PK\x03\x04 and then nothing")


DAMAGE = {
    "cut short": (cut, checkpoints.ARRAYS),
    "a bit flipped": (flip, checkpoints.ARRAYS),
    "no manifest": (remove(checkpoints.MANIFEST), checkpoints.MANIFEST),
    "no arrays": (remove(checkpoints.ARRAYS), checkpoints.ARRAYS),
    "no state": (remove(checkpoints.STATE), checkpoints.STATE),
    "an empty manifest": (empty(checkpoints.MANIFEST), checkpoints.MANIFEST),
    "an empty state": (empty(checkpoints.STATE), checkpoints.STATE),
    "a link": (link, checkpoints.STATE),
    "a pipe": (fifo, checkpoints.ARRAYS),
    "deeply nested": (deep, checkpoints.MANIFEST),
    "of another step": (other_step, checkpoints.MANIFEST),
    "a path outside": (other_file, checkpoints.MANIFEST),
    "Python objects": (pickled, checkpoints.ARRAYS),
    "a bare pickle": (bare_pickle, checkpoints.ARRAYS),
    "compressed": (bomb, checkpoints.ARRAYS),
    "no archive": (not_an_archive, checkpoints.ARRAYS),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_by_file_and_passed_over(tmp_path: Path, damage: str) -> None:
    write(str(tmp_path), a_checkpoint(7))
    bad = tmp_path / write(str(tmp_path), a_checkpoint(14))
    assert newest_complete(str(tmp_path)) == "g1-s14"
    do, file = DAMAGE[damage]
    do(bad)
    (problem,) = checkpoints.verify(str(bad))
    assert problem.startswith(str(bad / file))
    assert newest_complete(str(tmp_path)) == "g1-s7"
    with pytest.raises(CheckpointError, match=file):
        read(str(bad))


def test_the_newest_is_the_one_with_the_highest_step_whatever_lies_beside_it(tmp_path: Path) -> None:
    for generation, step in ((1, 10), (2, 9), (1, 100), (3, 100)):
        write(str(tmp_path), a_checkpoint(step, generation))
    (tmp_path / ".g3-s200.1").mkdir()
    (tmp_path / "g9-s").mkdir()
    (tmp_path / "g4-s500").write_text("a file")
    assert newest_complete(str(tmp_path)) == "g3-s100"
    assert newest_complete(str(tmp_path / "nowhere")) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    place=st.integers(0, 10**6),
    replacement=st.binary(max_size=40),
    name=st.sampled_from(["manifest.json", *checkpoints.FILES]),
)
def test_damage_anywhere_is_a_problem_and_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, place: int, replacement: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("c")
    path = folder / write(str(folder), a_checkpoint())
    before = (path / name).read_bytes()
    at = place % len(before)
    after = before[:at] + replacement + before[at + len(replacement) :]
    (path / name).write_bytes(after)
    problems = checkpoints.verify(str(path))
    if name in checkpoints.FILES:
        assert bool(problems) == (after != before)
