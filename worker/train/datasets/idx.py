"""IDX files, the format of MNIST and its kin, gzipped or not.

A file is a magic number (two zero bytes, the type of the elements, the number of dimensions), each dimension as a
big-endian 32-bit number, then the elements: http://yann.lecun.com/exdb/mnist/ . A header is believed only as far as the
file's own size bears it out, so a lying one allocates nothing.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from .arrays import Arrays, DataError, assemble, open_regular, shown, unreadable

UBYTE = 0x08
PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
_DIMENSIONS = {"images": 3, "labels": 1}
_DEFLATE_MOST = 1032  # no deflate stream grows by more: https://zlib.net/zlib_tech.html
_GZIP = 31  # zlib's wbits for a gzip header and trailer
_AGAIN = "copy or download the file again"


def load(folder: str) -> Arrays:
    """The data set in a folder of IDX files by their usual names. Raises DataError."""
    paths = find(folder)
    # zlib lets go of the interpreter while it decompresses; the training images are four fifths of the work.
    with ThreadPoolExecutor(len(PARTS)) as pool:
        arrays = list(pool.map(read, paths, [_DIMENSIONS[part.partition("-")[2]] for part in PARTS]))
    names = [shown(path) for path in paths]
    return assemble(
        folder, (arrays[0], arrays[1]), (arrays[2], arrays[3]), ((names[0], names[1]), (names[2], names[3]))
    )


def names(part: str) -> tuple[str, ...]:
    """The usual names of a part, in the order in which they are looked for."""
    dimensions = _DIMENSIONS[part.partition("-")[2]]
    plain = (f"{part}-idx{dimensions}-ubyte", f"{part}.idx{dimensions}-ubyte")
    return (*plain, *(f"{name}.gz" for name in plain))


def read(path: str, dimensions: int) -> npt.NDArray[np.uint8]:
    """One IDX file of unsigned bytes with so many dimensions. Raises DataError."""
    with open_regular(path, "an IDX file", _AGAIN) as file:
        try:
            header = file.read(_start(dimensions))
            if path.endswith(".gz") or header[:2] == b"\x1f\x8b":
                return _unzip(path, header + file.read(), dimensions)
            shape = _shape(path, header, dimensions)
            _compare(path, shape, os.fstat(file.fileno()).st_size - len(header), "")
            return _array(path, shape, file.read(math.prod(shape)))
        except (OSError, MemoryError) as error:
            raise unreadable(path, "an IDX file", error, _AGAIN) from error


def find(folder: str) -> list[str]:
    """The files of a folder that make up its data set. Raises DataError."""
    try:
        there = set(os.listdir(folder))
    except (OSError, ValueError) as error:
        raise unreadable(folder, "a folder of IDX files", error, "check the path") from error
    paths = []
    missing = []
    for part in PARTS:
        found = [name for name in names(part) if name in there]
        paths += [os.path.join(folder, found[0])] if found else []
        missing += [] if found else [names(part)[0]]
    if missing:
        some = ", ".join(shown(name) for name in sorted(there)[:8]) + (", …" if len(there) > 8 else "")
        raise DataError(
            f"{shown(folder)}: expected {', '.join(missing)} (with or without .gz), found {some or 'an empty folder'}",
            hint="put the four IDX files into one folder under their usual names",
        )
    return paths


def _shape(path: str, header: bytes, dimensions: int) -> tuple[int, ...]:
    """The dimensions that a header tells, checked for kind and number but not believed yet."""
    length = _start(dimensions)
    expected = bytes([0, 0, UBYTE, dimensions])
    if header[:4] != expected:
        raise DataError(
            f"{shown(path)}: expected the IDX magic number 0x{expected.hex()} "
            f"(unsigned bytes, {dimensions} dimension{'s' if dimensions > 1 else ''}), "
            f"found {'0x' + header[:4].hex() if header else 'an empty file'}",
            hint="check that images and labels are not exchanged and that the file is an IDX file",
        )
    if len(header) < length:
        raise DataError(
            f"{shown(path)}: expected an IDX header of {length} bytes, found {len(header)}",
            hint=_AGAIN,
        )
    return struct.unpack(f">{dimensions}I", header[4:length])


def _unzip(path: str, data: bytes, dimensions: int) -> npt.NDArray[np.uint8]:
    stream = zlib.decompressobj(_GZIP)
    try:
        header = stream.decompress(data, _start(dimensions))
        if len(header) < _start(dimensions) and not stream.eof:
            raise _cut_short(path, data)
        shape = _shape(path, header, dimensions)
        size = math.prod(shape)
        if size > _DEFLATE_MOST * len(data):
            raise DataError(
                f"{shown(path)}: its header promises {_described(shape)}, more than {len(data)} gzipped bytes can hold",
                hint=_AGAIN,
            )
        # One byte more than promised: a longer stream shows, and one of the right length is read to its checksum.
        body = stream.decompress(stream.unconsumed_tail, size + 1)
    except zlib.error as error:
        raise DataError(f"{shown(path)}: expected gzipped data, found: {error}", hint=_AGAIN) from error
    if len(body) <= size and not stream.eof:
        raise _cut_short(path, data)
    _compare(path, shape, len(body), "at least " if len(body) > size else "")
    return _array(path, shape, body)


def _cut_short(path: str, data: bytes) -> DataError:
    return DataError(
        f"{shown(path)}: expected gzipped data up to its end, found a file that is cut short after {len(data)} bytes",
        hint=_AGAIN,
    )


def _compare(path: str, shape: tuple[int, ...], found: int, least: str) -> None:
    if found != math.prod(shape):
        raise DataError(
            f"{shown(path)}: its header promises {_described(shape)}, that is {math.prod(shape)} bytes; "
            f"found {least}{found} bytes after it",
            hint=_AGAIN,
        )


def _array(path: str, shape: tuple[int, ...], body: bytes) -> npt.NDArray[np.uint8]:
    if len(body) != math.prod(shape):  # it shrank while it was read
        raise DataError(f"{shown(path)}: expected {math.prod(shape)} bytes, found {len(body)}", hint=_AGAIN)
    return np.frombuffer(body, np.uint8).reshape(shape)


def _start(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _described(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"{shape[0]} labels"
    return f"{shape[0]} images of {'×'.join(str(side) for side in shape[1:])}"
