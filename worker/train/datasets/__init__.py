"""Images and labels to train on: one call for every kind of data set, and one error for everything wrong with one."""

from __future__ import annotations

import os

from . import idx, kerasdata, npz
from .arrays import CLASSES, Arrays, DataError, digest

__all__ = ["CLASSES", "EMBEDDED", "KINDS", "Arrays", "DataError", "digest", "files", "load"]

EMBEDDED = "fashion-mnist-mini"
KINDS = (EMBEDDED, "fashion-mnist", "mnist", "npz", "idx")
DEBIAN_FASHION_MNIST = "/usr/share/datasets/fashion-mnist"


def load(kind: str, path: str | None = None) -> Arrays:
    """The data set `kind`, whole and checked, as read-only arrays.

    `path` is the file of `npz` or the folder of `idx`. The named kinds need none; with one, it is a copy of theirs that
    was brought to this host. Blocks: about 0.05 s for the embedded set, 0.3 s for the full Fashion-MNIST from local
    files, at most two minutes if something has to be downloaded. May be called at any time and from any thread: neither
    TensorFlow nor Keras is imported into this process.
    Raises DataError for whatever is missing, unreadable or not 28×28 uint8 images of ten classes.
    """
    if kind in ("npz", "idx"):
        if not path:
            raise DataError(
                f"the data set {kind} needs a path, and none was given",
                hint=f"write `dataset: {{{kind}: PATH}}`",
            )
        return npz.load(path) if kind == "npz" else idx.load(path)
    if path and kind in KINDS:
        return npz.load(path) if os.path.isfile(path) else idx.load(path)
    if kind == EMBEDDED:
        return npz.load(os.path.join(os.path.dirname(__path__[0]), "data", "fashion-mnist-mini.npz"))
    if kind == "fashion-mnist":
        return _fashion_mnist()
    if kind == "mnist":
        return kerasdata.load("mnist")
    raise DataError(
        f"there is no data set {kind!r}; there are {', '.join(KINDS)}",
        hint=f"choose one of them; {EMBEDDED} comes with the package",
    )


def files(kind: str, path: str | None = None) -> list[str] | None:
    """The files that `load` would read now; None if that is not known before. Raises DataError.

    Of the embedded set none: it cannot change, as little as the package that it comes with.
    """
    if kind == EMBEDDED and not path:
        return []
    if kind == "fashion-mnist" and not path and os.path.isdir(DEBIAN_FASHION_MNIST):
        path = DEBIAN_FASHION_MNIST
    if not path or kind not in KINDS:
        return None
    return idx.find(path) if kind == "idx" or (kind != "npz" and not os.path.isfile(path)) else [path]


def _fashion_mnist() -> Arrays:
    if os.path.isdir(DEBIAN_FASHION_MNIST):
        return idx.load(DEBIAN_FASHION_MNIST)
    return kerasdata.load("fashion-mnist")
