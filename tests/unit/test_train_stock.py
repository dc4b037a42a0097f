"""A data set that was read before the fork: it serves as long as reading it again would give the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.contract import names
from worker.train import stock
from worker.train.datasets import EMBEDDED, digest, load
from worker.train.inputs import in_background
from worker.train.stock import lay_in


def env(kind: str, path: str | None = None) -> dict[str, str]:
    return {names.TRAIN: json.dumps({"dataset": {"kind": kind, "path": path}})}


def write(path: Path, **changes: Any) -> None:
    whole = load(EMBEDDED)
    arrays = {name: getattr(whole, name)[:50] for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(path, **{**arrays, **changes})


def test_a_rank_takes_what_is_in_stock_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    write(path)
    laid_in = lay_in(env("npz", str(path)))
    assert laid_in is not None
    inputs = in_background("npz", str(path), "", laid_in).result(20)
    assert inputs.arrays is laid_in.arrays
    assert inputs.digest == digest(load("npz", str(path)))


def test_what_has_changed_on_the_disk_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    write(path)
    laid_in = lay_in(env("npz", str(path)))
    assert laid_in is not None
    assert laid_in.serves("npz", str(path))
    write(path, x_train=load(EMBEDDED).x_train[50:100])
    assert not laid_in.serves("npz", str(path))
    inputs = in_background("npz", str(path), "", laid_in).result(20)
    assert inputs.digest != laid_in.digest
    path.unlink()
    assert not laid_in.serves("npz", str(path))


def test_another_data_set_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    write(path)
    laid_in = lay_in(env(EMBEDDED))
    assert laid_in is not None
    assert laid_in.serves(EMBEDDED, None)
    assert not laid_in.serves("npz", str(path))


def test_faults_are_left_to_the_rank_to_tell(tmp_path: Path) -> None:
    (tmp_path / "torn.npz").write_bytes(b"PK")
    assert lay_in(env("npz", str(tmp_path / "torn.npz"))) is None
    assert lay_in(env("npz", str(tmp_path / "missing.npz"))) is None
    assert lay_in(env("function")) is None
    assert lay_in(env("mnist")) is None  # it may have to be downloaded
    assert lay_in({names.TRAIN: "no JSON"}) is None
    assert lay_in({}) is None


def test_a_large_data_set_is_not_laid_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.npz"
    write(path)
    monkeypatch.setattr(stock, "MOST_BYTES", path.stat().st_size - 1)
    assert lay_in(env("npz", str(path))) is None
