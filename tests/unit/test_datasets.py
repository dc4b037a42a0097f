"""Data sets that are as they should be: found where they may lie, and turned into the same kind of arrays."""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tools import make_fashion_mnist_mini as maker
from worker.train.datasets import DEBIAN_FASHION_MNIST, EMBEDDED, Arrays, DataError, kerasdata, load

ROOT = Path(__file__).parents[2]
Parts = dict[str, npt.NDArray[Any]]

needs_fashion_mnist = pytest.mark.skipif(
    not Path(DEBIAN_FASHION_MNIST).is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


def parts(train: int = 12, test: int = 7) -> Parts:
    random = np.random.RandomState(1)
    return {
        "x_train": random.randint(0, 256, (train, 28, 28)).astype(np.uint8),
        "y_train": random.randint(0, 10, train).astype(np.uint8),
        "x_test": random.randint(0, 256, (test, 28, 28)).astype(np.uint8),
        "y_test": random.randint(0, 10, test).astype(np.uint8),
    }


def idx_bytes(array: npt.NDArray[Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, arrays: Parts, separator: str = "-", zipped: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, key in zip(("train", "t10k"), ("train", "test"), strict=True):
        for kind, array in (("images", arrays[f"x_{key}"]), ("labels", arrays[f"y_{key}"])):
            name = f"{part}-{kind}{separator}idx{array.ndim}-ubyte" + (".gz" if zipped else "")
            data = idx_bytes(array)
            (folder / name).write_bytes(gzip.compress(data) if zipped else data)
    return folder


def assert_same(found: Arrays, expected: Parts) -> None:
    for key, array in expected.items():
        got = getattr(found, key)
        assert got.dtype == (np.uint8 if key[0] == "x" else np.int32)
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, array.reshape(got.shape))
    assert found.x_train.shape == (len(expected["x_train"]), 28, 28, 1)
    assert found.y_train.shape == (len(expected["y_train"]),)
    assert found.classes == 10


def test_the_embedded_set_has_600_and_100_images_of_each_class_and_loads_at_once() -> None:
    load(EMBEDDED)
    began = time.perf_counter()
    data = load(EMBEDDED)
    seconds = time.perf_counter() - began
    assert data.x_train.shape == (6000, 28, 28, 1)
    assert data.x_test.shape == (1000, 28, 28, 1)
    assert np.bincount(data.y_train).tolist() == [600] * 10
    assert np.bincount(data.y_test).tolist() == [100] * 10
    assert data.source.endswith("fashion-mnist-mini.npz")
    assert seconds < 1  # it takes 0.03 s; the rest is for busy machines


def test_the_embedded_set_is_not_sorted_by_class() -> None:
    # A short first chunk of the data must still show every class.
    assert set(load(EMBEDDED).y_train[:200].tolist()) == set(range(10))


@needs_fashion_mnist
def test_the_script_makes_exactly_the_embedded_set() -> None:
    made = maker.subset(load("idx", DEBIAN_FASHION_MNIST))
    assert_same(load(EMBEDDED), made)
    told = dict(
        re.findall(r"^\| (\w+) \|.*\| ([0-9a-f]{64}) \|$", (maker.TARGET.parent / "README.md").read_text(), re.M)
    )
    assert {name: maker.digest(array) for name, array in made.items()} == told


@needs_fashion_mnist
def test_the_full_fashion_mnist_comes_from_debians_files() -> None:
    data = load("fashion-mnist")
    assert data.source == DEBIAN_FASHION_MNIST
    assert np.bincount(data.y_train).tolist() == [6000] * 10
    assert np.bincount(data.y_test).tolist() == [1000] * 10


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_folders_by_all_usual_names(tmp_path: Path, separator: str, zipped: bool) -> None:
    arrays = parts()
    folder = write_idx(tmp_path / 'a folder\'s "name"', arrays, separator, zipped)
    data = load("idx", str(folder))
    assert_same(data, arrays)
    assert data.source == str(folder)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_stored_or_deflated(tmp_path: Path, save: Any) -> None:
    arrays = parts()
    save(tmp_path / "my data.npz", **arrays, other=np.zeros(3))
    assert_same(load("npz", str(tmp_path / "my data.npz")), arrays)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "uint64", ">i4"])
@pytest.mark.parametrize("column", [True, False])
def test_labels_of_any_integer_dtype_and_of_shape_n_1_are_taken(tmp_path: Path, dtype: str, column: bool) -> None:
    arrays = parts()
    wide = {**arrays, "y_train": arrays["y_train"].astype(dtype), "y_test": arrays["y_test"].astype(dtype)}
    if column:
        wide = {key: array[:, None] if key[0] == "y" else array for key, array in wide.items()}
    np.savez(tmp_path / "d.npz", **wide)  # type: ignore[arg-type]
    assert_same(load("npz", str(tmp_path / "d.npz")), arrays)


def test_images_with_a_channel_axis_or_in_fortran_order_are_taken(tmp_path: Path) -> None:
    arrays = parts()
    np.savez(
        tmp_path / "d.npz",
        x_train=np.asfortranarray(arrays["x_train"]),
        y_train=arrays["y_train"],
        x_test=arrays["x_test"][..., None],
        y_test=arrays["y_test"],
    )
    assert_same(load("npz", str(tmp_path / "d.npz")), arrays)


def test_arrays_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    write_idx(tmp_path, parts())
    for data in (load("idx", str(tmp_path)), load(EMBEDDED)):
        for array in (data.x_train, data.y_train, data.x_test, data.y_test):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_loading_imports_neither_tensorflow_nor_keras_and_leaves_no_thread() -> None:
    script = (
        "import sys, threading; from worker.train.datasets import load; load('fashion-mnist-mini');"
        "load('idx', sys.argv[1]) if sys.argv[1] else None;"
        "assert not {'tensorflow', 'keras'} & set(sys.modules); assert threading.active_count() == 1"
    )
    source = DEBIAN_FASHION_MNIST if Path(DEBIAN_FASHION_MNIST).is_dir() else ""
    subprocess.run([sys.executable, "-c", script, source], cwd=ROOT, check=True, timeout=60)


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Keras home of the test's own, on a machine without Debian's package."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras home"))
    monkeypatch.setattr("worker.train.datasets.DEBIAN_FASHION_MNIST", str(tmp_path / "no such folder"))
    return tmp_path / "keras home"


def test_data_in_kerass_cache_is_read_from_there(keras_home: Path) -> None:
    arrays = parts()
    write_idx(keras_home / "datasets" / "fashion-mnist", arrays)
    np.savez(keras_home / "datasets" / "mnist.npz", **arrays)  # type: ignore[arg-type]
    assert_same(load("fashion-mnist"), arrays)
    assert load("fashion-mnist").source == str(keras_home / "datasets" / "fashion-mnist")
    assert_same(load("mnist"), arrays)


class Network:
    """Stands for the commands that probe the server and run Keras's loader."""

    def __init__(self, arrays: Parts, probe: str | None = None, loader: str | None = None) -> None:
        self.arrays, self.probe, self.loader = arrays, probe, loader
        self.commands: list[str] = []

    def __call__(self, argv: list[str], env: dict[str, str], timeout_s: float) -> str | None:
        self.commands.append(argv[-1])
        assert 0 < timeout_s <= kerasdata.DOWNLOAD_S
        if argv[-1].startswith("https://"):
            return self.probe
        assert "TF_CONFIG" not in env
        datasets = Path(env["KERAS_HOME"]) / "datasets"
        datasets.mkdir()
        if argv[-1] == "mnist":
            np.savez(datasets / "mnist.npz", **self.arrays)  # type: ignore[arg-type]
        else:
            write_idx(datasets / "fashion-mnist", self.arrays)
        return self.loader


@pytest.mark.parametrize("kind", ["mnist", "fashion-mnist"])
def test_a_download_ends_up_in_kerass_cache_and_is_not_done_twice(
    keras_home: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", "{}")
    arrays = parts()
    network = Network(arrays)
    data = kerasdata.load(kind, network)
    assert_same(data, arrays)
    assert data.source.startswith(str(keras_home / "datasets"))
    assert len(network.commands) == 2
    assert_same(kerasdata.load(kind, network), arrays)
    assert len(network.commands) == 2
    assert not list((keras_home / "datasets").glob(".*"))


def test_a_download_that_fails_leaves_nothing_in_kerass_cache(keras_home: Path) -> None:
    with pytest.raises(DataError, match="could not download it: the wire broke"):
        kerasdata.load("mnist", Network(parts(), loader="the wire broke"))
    assert list((keras_home / "datasets").iterdir()) == []


def test_offline_the_embedded_set_and_debians_package_are_named(keras_home: Path) -> None:
    network = Network(parts(), probe="Name or service not known")
    with pytest.raises(DataError) as caught:
        kerasdata.load("fashion-mnist", network)
    assert len(network.commands) == 1
    assert str(keras_home / "datasets" / "fashion-mnist") in caught.value.message
    assert "Name or service not known" in caught.value.message
    assert "fashion-mnist-mini" in caught.value.hint
    assert "dataset-fashion-mnist" in caught.value.hint


def test_a_command_that_hangs_is_ended_in_time() -> None:
    began = time.perf_counter()
    assert kerasdata.run([sys.executable, "-c", "import time; time.sleep(60)"], {}, 0.2) == "no end after 0.2 s"
    assert time.perf_counter() - began < 10


def test_what_a_command_says_last_is_the_reason() -> None:
    script = "import sys; print('noise', file=sys.stderr); sys.exit('no route to host')"
    assert kerasdata.run([sys.executable, "-c", script], dict(os.environ), 30) == "no route to host"
    assert kerasdata.run([sys.executable, "-c", "print('bar')"], dict(os.environ), 30) is None
