"""Data that is not as it should be: an error that names the file, what was expected and found, and the next step."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.train.datasets import Arrays, DataError, load

from .test_datasets import idx_bytes, parts, write_idx

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


def fault(kind: str, path: Path | None) -> DataError:
    """The error of loading it, which must say something and what to do next."""
    with pytest.raises(DataError) as caught:
        load(kind, None if path is None else str(path))
    assert caught.value.message == str(caught.value)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def npz_fault(tmp_path: Path, **changed: Any) -> str:
    """The message about an .npz file with some arrays changed; None leaves one out."""
    arrays = {key: array for key, array in {**parts(), **changed}.items() if array is not None}
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    message = fault("npz", path).message
    assert str(path) in message
    return message


@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_what_is_not_there(tmp_path: Path, kind: str) -> None:
    message = fault(kind, tmp_path / "nowhere").message
    assert str(tmp_path / "nowhere") in message
    assert "nothing there" in message


@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_a_path_that_is_not_given(kind: str) -> None:
    assert f"{kind}: PATH" in fault(kind, None).hint


def test_a_copy_of_a_named_set_that_is_not_where_it_was_brought(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in fault("mnist", tmp_path / "nowhere").message
    assert str(tmp_path) in fault("fashion-mnist", tmp_path).message


def test_a_kind_that_there_is_not() -> None:
    message = fault("cifar10", None).message
    assert "'cifar10'" in message
    assert "fashion-mnist-mini" in message


def test_a_folder_a_fifo_and_an_impossible_path_for_a_file(tmp_path: Path) -> None:
    assert "found a folder" in fault("npz", tmp_path).message
    os.mkfifo(tmp_path / "fifo")
    assert "not a file" in fault("npz", tmp_path / "fifo").message
    assert "null" in fault("npz", Path("a\0b")).message
    assert "null" in fault("idx", Path("a\0b")).message


def test_a_newline_in_a_path_does_not_break_the_message(tmp_path: Path) -> None:
    assert "two\\nlines" in fault("npz", tmp_path / "two\nlines").message
    (tmp_path / "odd\nname").touch()
    assert "odd\\nname" in fault("idx", tmp_path).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.touch(mode=0)
    assert "Permission denied" in fault("npz", path).message


# .npz


class Unloadable:
    """Fails the test if it is ever taken out of its pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


def test_an_npz_file_that_is_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(b"")
    assert "not a zip file" in fault("npz", path).message
    path.write_bytes(b"PK\x03\x04 not really")
    assert "not a zip file" in fault("npz", path).message


def test_an_npz_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **parts())  # type: ignore[arg-type]
    path.write_bytes(path.read_bytes()[:-100])
    assert "zip" in fault("npz", path).message


def test_an_npz_file_with_a_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **parts())  # type: ignore[arg-type]
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    assert "CRC" in fault("npz", path).message


def test_an_npz_file_with_a_broken_deflate_stream(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **parts())  # type: ignore[arg-type]
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x_train.npy")
    name_length, extra_length = struct.unpack_from("<HH", data, info.header_offset + 26)
    start = info.header_offset + 30 + name_length + extra_length
    data[start : start + 4] = b"\xff\xff\xff\xff"  # no deflate block begins like this
    path.write_bytes(data)
    assert "intact .npz file" in fault("npz", path).message


def test_an_encrypted_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **parts())  # type: ignore[arg-type]
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x_train.npy")
    data[info.header_offset + 6] |= 1
    entry = data.find(b"PK\x01\x02")
    data[entry + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in fault("npz", path).message


def test_an_array_is_missing(tmp_path: Path) -> None:
    message = npz_fault(tmp_path, y_test=None, labels=np.zeros(3))
    assert "y_test is missing" in message
    assert "labels" in message


@pytest.mark.parametrize("key", ["x_train", "y_test"])
def test_object_arrays_are_refused_unread(tmp_path: Path, key: str) -> None:
    message = npz_fault(tmp_path, **{key: np.array([*parts()[key], Unloadable()], dtype=object)})
    assert f"{key} in" in message
    assert "pickles and never loaded" in message


def test_a_bare_pickle_as_a_member(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key in parts():
            archive.writestr(f"{key}.npy", b"\x80\x04\x95\x0b\x00\x00\x00")
    assert "x_train" in fault("npz", path).message


def test_floats_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **{**parts(), "x_train": parts()["x_train"].astype("float32") / 255})  # type: ignore[arg-type]
    error = fault("npz", path)
    assert "x_train in" in error.message
    assert "uint8" in error.message
    assert "float32" in error.message
    assert "(images * 255).round()" in error.hint


@pytest.mark.parametrize("dtype", ["int64", "uint16", "bool", "S1", "complex64"])
def test_images_of_another_dtype(tmp_path: Path, dtype: str) -> None:
    assert "x_test in" in npz_fault(tmp_path, x_test=np.ones((7, 28, 28), dtype))


@pytest.mark.parametrize("shape", [(12, 32, 32), (12, 28, 28, 3), (12, 784), (12,), (), (12, 28, 28, 1, 1)])
def test_images_of_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    message = npz_fault(tmp_path, x_train=np.zeros(shape, np.uint8))
    assert "[n, 28, 28]" in message
    assert str(list(shape)) in message


@pytest.mark.parametrize(("label", "dtype"), [(10, "uint8"), (-1, "int64"), (255, "uint8"), (2**32, "uint64")])
def test_a_label_out_of_range(tmp_path: Path, label: int, dtype: str) -> None:
    labels = parts()["y_train"].astype(dtype)
    labels[5] = label
    message = npz_fault(tmp_path, y_train=labels)
    assert "labels from 0 to 9" in message
    assert f"found {label} for image 5" in message


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros(12, "float32"), "integer labels"),
        (np.zeros(12, "bool"), "integer labels"),
        (np.zeros((12, 10), "uint8"), "one-hot"),
        (np.zeros((12, 3), "uint8"), "[n, 1]"),
        (np.uint8(3), "[n, 1]"),
    ],
)
def test_labels_that_are_not_one_integer_each(tmp_path: Path, labels: Any, said: str) -> None:
    assert said in npz_fault(tmp_path, y_train=labels)


def test_more_images_than_labels(tmp_path: Path) -> None:
    message = npz_fault(tmp_path, y_test=parts()["y_test"][:5])
    assert "7 images" in message
    assert "5 labels" in message


def test_no_images_at_all(tmp_path: Path) -> None:
    empty = np.zeros((0, 28, 28), np.uint8)
    assert "at least one image" in npz_fault(tmp_path, x_test=empty, y_test=np.zeros(0, np.uint8))


def lying_npz(path: Path, shape: str, promised: int | None = None) -> None:
    """An .npz file whose x_train promises more than is there, in its own header or in the archive's sizes, too."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(1000)
    np.savez(path, **{key: array for key, array in parts().items() if key != "x_train"})  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", member)
    if promised is not None:
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<I", len(member)), struct.pack("<I", promised)))


@pytest.mark.parametrize("promised", [None, 2**32 - 2])
@pytest.mark.parametrize(
    "shape", ["(2147483648, 28, 28)", "(-1, 28, 28)", "(-1, -1000)", "(10**99,)", "(9" + "9" * 90 + ",)"]
)
def test_a_lying_npz_header_allocates_nothing(tmp_path: Path, shape: str, promised: int | None) -> None:
    path = tmp_path / "data.npz"
    lying_npz(path, shape, promised)
    tracemalloc.start()
    try:
        assert "x_train in" in fault("npz", path).message
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


# IDX


def idx_fault(folder: Path, name: str, data: bytes) -> DataError:
    """The error about a folder of IDX files of which one is exchanged."""
    write_idx(folder, parts(), zipped=False)
    (folder / IMAGES).unlink() if name.startswith(IMAGES) else None
    (folder / LABELS).unlink() if name.startswith(LABELS) else None
    (folder / name).write_bytes(data)
    error = fault("idx", folder)
    assert str(folder / name) in error.message
    return error


def test_files_of_an_idx_folder_are_missing(tmp_path: Path) -> None:
    write_idx(tmp_path, parts())
    (tmp_path / f"{LABELS}.gz").unlink()
    message = fault("idx", tmp_path).message
    assert f"expected {LABELS} (with or without .gz)" in message
    assert IMAGES in message
    (tmp_path / "empty").mkdir()
    assert "an empty folder" in fault("idx", tmp_path / "empty").message


@pytest.mark.parametrize("magic", [b"\0\0\x08\x01", b"\0\0\x0d\x03", b"\x89PNG"])
def test_a_wrong_magic_number(tmp_path: Path, magic: bytes) -> None:
    message = idx_fault(tmp_path, IMAGES, magic + idx_bytes(parts()["x_train"])[4:]).message
    assert "0x00000803" in message
    assert f"0x{magic.hex()}" in message


def test_an_empty_file_and_a_header_cut_short(tmp_path: Path) -> None:
    assert "an empty file" in idx_fault(tmp_path, LABELS, b"").message
    assert "found 6" in idx_fault(tmp_path, LABELS, b"\0\0\x08\x01\0\0").message


def test_images_of_another_size_in_idx(tmp_path: Path) -> None:
    assert "[12, 32, 32]" in idx_fault(tmp_path, IMAGES, idx_bytes(np.zeros((12, 32, 32), np.uint8))).message


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("change", [lambda data: data[:-5], lambda data: data + b"12345"])
def test_a_header_that_does_not_match_the_bytes(
    tmp_path: Path, pack: Callable[[bytes], bytes], change: Callable[[bytes], bytes]
) -> None:
    name = IMAGES if pack is bytes else f"{IMAGES}.gz"
    message = idx_fault(tmp_path, name, pack(change(idx_bytes(parts()["x_train"])))).message
    assert "12 images of 28×28, that is 9408 bytes" in message
    assert "9403" in message or "9413" in message or "at least 9409" in message


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_lying_idx_header_allocates_nothing(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    data = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 28, 28) + bytes(1000)
    write_idx(tmp_path, parts(), zipped=False)
    tracemalloc.start()
    try:
        idx_fault(tmp_path, IMAGES if pack is bytes else f"{IMAGES}.gz", pack(data))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_says(tmp_path: Path) -> None:
    bomb = gzip.compress(idx_bytes(parts()["x_train"]) + bytes(50_000_000))
    tracemalloc.start()
    try:
        assert "at least" in idx_fault(tmp_path, f"{IMAGES}.gz", bomb).message
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [3, 15, 200, -9, -1])
def test_a_gzip_file_cut_short(tmp_path: Path, length: int) -> None:
    whole = gzip.compress(idx_bytes(parts()["x_train"]))
    assert "cut short" in idx_fault(tmp_path, f"{IMAGES}.gz", whole[:length]).message


def test_a_gz_file_that_is_no_gzip_and_one_with_a_wrong_checksum(tmp_path: Path) -> None:
    plain = idx_bytes(parts()["y_train"])
    assert "expected gzipped data" in idx_fault(tmp_path, f"{LABELS}.gz", plain).message
    zipped = bytearray(gzip.compress(plain))
    zipped[-8] ^= 1
    assert "incorrect data check" in idx_fault(tmp_path, f"{LABELS}.gz", bytes(zipped)).message


def test_a_broken_file_in_kerass_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mnist.npz").write_bytes(b"half a fi")
    assert str(tmp_path / "datasets" / "mnist.npz") in fault("mnist", None).message


def loads_or_says_why(kind: str, path: Path) -> None:
    try:
        found: Arrays | DataError = load(kind, str(path))
    except DataError as error:
        found = error
    assert isinstance(found, Arrays) or (found.message and found.hint)


mutations = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["flip", "cut", "insert"]), st.binary(max_size=8)))


def mutate(data: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for where, what, new in changes:
        at = int(where * len(data))
        if what == "cut":
            data = data[:at]
        elif what == "insert":
            data = data[:at] + new + data[at:]
        else:
            data = data[:at] + new + data[at + len(new) :]
    return data


@pytest.mark.filterwarnings("ignore")  # NumPy evaluates the damaged header
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=mutations, member=st.booleans())
def test_no_damage_to_an_npz_file_is_more_than_an_error(
    tmp_path: Path, changes: list[tuple[float, str, bytes]], member: bool
) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **parts(2, 1))  # type: ignore[arg-type]
    if member:  # damage inside an intact archive: the array's own header
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        files["x_train.npy"] = mutate(files["x_train.npy"][:128], changes) + files["x_train.npy"][128:]
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        path.write_bytes(mutate(path.read_bytes(), changes))
    loads_or_says_why("npz", path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=mutations, zipped=st.booleans())
def test_no_damage_to_an_idx_file_is_more_than_an_error(
    tmp_path: Path, changes: list[tuple[float, str, bytes]], zipped: bool
) -> None:
    folder = tmp_path / "idx"
    shutil.rmtree(folder, ignore_errors=True)
    write_idx(folder, parts(2, 1), zipped=zipped)
    path = folder / (f"{IMAGES}.gz" if zipped else IMAGES)
    path.write_bytes(mutate(path.read_bytes(), changes))
    loads_or_says_why("idx", folder)
