"""What every data set becomes, and the checks that each must pass."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

CLASSES = 10
SIDE = 28


class DataError(Exception):
    """Something about a data set that a user can be told. `hint` is the next step, in the imperative."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Arrays:
    """A data set: images uint8 [n, 28, 28, 1], labels int32 [n] in 0 … classes − 1. All arrays are read-only.

    From a user's function: examples [n, …] of uint8, int32 or float32, and targets [n, …] of int32 or float32.
    """

    x_train: npt.NDArray[Any]
    y_train: npt.NDArray[Any]
    x_test: npt.NDArray[Any]
    y_test: npt.NDArray[Any]
    classes: int | None  # None: the targets are not numbers of classes
    source: str  # the file, folder or function that they came from


def digest(data: Arrays) -> str:
    """A hash of a data set: shapes, dtypes and what is in the arrays."""
    found = hashlib.sha256()
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        found.update(f"{array.shape}{array.dtype.str}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:32]


def shown(path: str) -> str:
    """A path as it can be put in a message: as it is, or quoted if it holds anything that would break the line."""
    return path if path.isprintable() else repr(path)


def assemble(
    source: str,
    train: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    test: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    names: tuple[tuple[str, str], tuple[str, str]],
) -> Arrays:
    """Check images and labels of both parts; `names` says for messages where each of the four was found."""
    parts = []
    for (images, labels), (images_name, labels_name) in zip((train, test), names, strict=True):
        x, y = check_images(images, images_name), check_labels(labels, labels_name)
        if len(x) != len(y):
            raise DataError(
                f"{images_name} holds {len(x)} images and {labels_name} holds {len(y)} labels; each image needs one",
                hint="take both from the same data set",
            )
        parts.append((x, y))
    return Arrays(*parts[0], *parts[1], classes=CLASSES, source=source)


def check_images(images: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """Images as read-only uint8 [n, 28, 28, 1]; copied only if they do not lie in memory in that order."""
    if images.dtype != np.uint8:
        raise DataError(
            f"{name}: expected images of dtype uint8 (0 to 255), found {images.dtype}", hint=_to_uint8(images)
        )
    if images.shape[1:] not in ((SIDE, SIDE), (SIDE, SIDE, 1)):
        raise DataError(
            f"{name}: expected images of shape [n, {SIDE}, {SIDE}] or [n, {SIDE}, {SIDE}, 1], "
            f"found {list(images.shape)}",
            hint=f"bring the images to {SIDE}×{SIDE} pixels in one channel first",
        )
    if not len(images):
        raise DataError(f"{name}: expected at least one image, found none", hint="check how the file was written")
    x = np.ascontiguousarray(images).reshape(-1, SIDE, SIDE, 1)
    x.flags.writeable = False
    return x


def check_labels(labels: npt.NDArray[Any], name: str) -> npt.NDArray[np.int32]:
    """Labels as read-only int32 [n]; any integer dtype and the shape [n, 1] are taken, too."""
    if labels.ndim == 2 and labels.shape[1] == CLASSES:
        raise DataError(
            f"{name}: expected one number per image, found shape {list(labels.shape)}, which looks one-hot",
            hint="save `labels.argmax(axis=1)` instead",
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{name}: expected integer labels, found {labels.dtype}",
            hint='save `labels.astype("uint8")` instead, if they are whole numbers',
        )
    if labels.ndim != 1 and not (labels.ndim == 2 and labels.shape[1] == 1):
        raise DataError(
            f"{name}: expected labels of shape [n] or [n, 1], found {list(labels.shape)}",
            hint="save one number per image",
        )
    y = labels.reshape(-1)
    # Compared before the cast: a label of 2**32 would become 0.
    wrong = np.flatnonzero((y < 0) | (y >= CLASSES))
    if len(wrong):
        raise DataError(
            f"{name}: expected labels from 0 to {CLASSES - 1}, found {y[wrong[0]]} for image {wrong[0]}"
            + (f" ({len(wrong)} labels are out of range)" if len(wrong) > 1 else ""),
            hint=f"number the {CLASSES} classes from 0",
        )
    y = np.array(y, dtype=np.int32)
    y.flags.writeable = False
    return y


def open_regular(path: str, what: str, hint: str) -> BinaryIO:
    """Open a file for reading. A missing or unreadable one, or anything but a file, is a DataError."""
    try:
        # Looked at before it is opened: opening a FIFO would wait for a writer.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "something that is not a file"
            raise DataError(f"{shown(path)}: expected {what}, found {kind}", hint=hint)
        return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise unreadable(path, what, error, hint) from error


def unreadable(path: str, what: str, error: Exception, hint: str) -> DataError:
    """The DataError for what the operating system says about a path."""
    found = "nothing there" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or str(error)
    return DataError(f"{shown(path)}: expected {what}, found: {found}", hint=hint)


def _to_uint8(images: npt.NDArray[Any]) -> str:
    if images.dtype.kind == "f":
        return (
            'save uint8: `images.astype("uint8")` if they run from 0 to 255, '
            '`(images * 255).round().astype("uint8")` if from 0 to 1'
        )
    return 'save `images.astype("uint8")` instead, if they run from 0 to 255'
