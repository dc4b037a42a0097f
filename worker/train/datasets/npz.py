"""NumPy's .npz files: x_train, y_train, x_test, y_test.

Read member by member rather than by `numpy.load`: that allocates what a member's header promises before it has seen a
byte of it. Here a header is believed only as far as the archive's own sizes bear it out. Pickles are never opened.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from .arrays import Arrays, DataError, assemble, open_regular, shown, unreadable

KEYS = ("x_train", "y_train", "x_test", "y_test")
_DEFLATE_MOST = 1032  # no deflate stream grows by more: https://zlib.net/zlib_tech.html
# What zipfile lets through from damaged archives, beside its own BadZipFile; RuntimeError: encrypted.
_DAMAGE = (zlib.error, struct.error, EOFError, ValueError, IndexError, RuntimeError)
_WRITE = "write it with `numpy.savez_compressed(FILE, x_train=…, y_train=…, x_test=…, y_test=…)`"
_AGAIN = "copy or download the file again, or write it anew"


def load(path: str) -> Arrays:
    """The data set in an .npz file. Raises DataError."""
    with open_regular(path, "an .npz file", _WRITE) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                arrays = {key: _read(path, archive, key) for key in KEYS}
        except zipfile.BadZipFile as error:
            raise DataError(
                f"{shown(path)}: expected an .npz file (a zip archive), found: {error}", hint=_WRITE
            ) from error
        except (OSError, MemoryError) as error:
            raise unreadable(path, "an .npz file", error, _AGAIN) from error
        except _DAMAGE as error:
            raise DataError(f"{shown(path)}: expected an intact .npz file, found: {error}", hint=_AGAIN) from error
    names = {key: f"{key} in {shown(path)}" for key in KEYS}
    return assemble(
        path,
        (arrays["x_train"], arrays["y_train"]),
        (arrays["x_test"], arrays["y_test"]),
        ((names["x_train"], names["y_train"]), (names["x_test"], names["y_test"])),
    )


def _read(path: str, archive: zipfile.ZipFile, key: str) -> npt.NDArray[Any]:
    name = f"{key} in {shown(path)}"
    there = archive.namelist()
    if f"{key}.npy" not in there:
        there = [shown(member.removesuffix(".npy")) for member in there]
        some = ", ".join(there[:8]) + (", …" if len(there) > 8 else "")
        raise DataError(
            f"{shown(path)}: expected the arrays {', '.join(KEYS)}; {key} is missing, found {some or 'no arrays'}",
            hint=_WRITE,
        )
    info = archive.getinfo(f"{key}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name}: expected it stored or deflated, found another compression", hint=_WRITE)
    if info.file_size > _DEFLATE_MOST * (info.compress_size + 1):
        raise DataError(
            f"{name}: the archive promises {info.file_size} bytes, more than {info.compress_size} compressed bytes "
            "can hold",
            hint=_AGAIN,
        )
    with archive.open(info) as member:
        shape, fortran, dtype = _header(name, member)  # type: ignore[arg-type]
        if dtype.kind not in "biuf":
            found = "Python objects, which are pickles and never loaded" if dtype.hasobject else str(dtype)
            raise DataError(
                f"{name}: expected plain numbers, found {found}",
                hint="save arrays of one shape and dtype, for example after `numpy.stack(images)`",
            )
        size = math.prod(shape) * dtype.itemsize
        start = member.tell()
        if size != info.file_size - start or min(shape, default=0) < 0:
            raise DataError(
                f"{name}: its header promises {dtype} {list(shape)}, that is {size} bytes; "
                f"found {info.file_size - start} bytes after it",
                hint=_AGAIN,
            )
        data = member.read()  # to the end, where the archive's checksum is compared
    if len(data) != size:
        raise DataError(f"{name}: expected {size} bytes, found {len(data)}", hint=_AGAIN)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(name: str, member: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype as an array's header tells them. NumPy's own parser; it evaluates literals only."""
    try:
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(member)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(member)
    except (OSError, MemoryError, zlib.error, zipfile.BadZipFile):  # the archive's faults, not the header's
        raise
    except Exception as error:  # a damaged header can make Python's own parser fail in many ways
        what = f"something else ({error})" if "magic" not in str(error) else "something else, perhaps a pickle"
        raise DataError(f"{name}: expected an array in NumPy's format, found {what}", hint=_WRITE) from error
    raise DataError(f"{name}: expected an array in NumPy's format 1.0 or 2.0, found {version}", hint=_WRITE)
