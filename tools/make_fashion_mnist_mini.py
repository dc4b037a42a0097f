"""Make worker/train/data/fashion-mnist-mini.npz: a stratified subset of Fashion-MNIST, the same at every run.

    python -m tools.make_fashion_mnist_mini [SOURCE] [TARGET]

SOURCE is a folder with the four files of Fashion-MNIST (default: where Debian's dataset-fashion-mnist puts them). Of
each class 600 training and 100 test images are drawn with a fixed seed; they keep the order that they have in the
source. The SHA-256 of each array is printed, as it stands in worker/train/data/README.md.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.train.datasets import CLASSES, DEBIAN_FASHION_MNIST, Arrays, load

TARGET = Path(__file__).parents[1] / "worker/train/data/fashion-mnist-mini.npz"
SEED = 20170825
TRAIN_PER_CLASS = 600
TEST_PER_CLASS = 100


def subset(full: Arrays) -> dict[str, npt.NDArray[np.uint8]]:
    """The arrays of the subset, as they are stored: images [n, 28, 28] and labels [n], both uint8."""
    # RandomState, because NumPy promises that its streams never change.
    random = np.random.RandomState(SEED)
    train = chosen(full.y_train, TRAIN_PER_CLASS, random)
    test = chosen(full.y_test, TEST_PER_CLASS, random)
    return {
        "x_train": full.x_train[train, :, :, 0],
        "y_train": full.y_train[train].astype(np.uint8),
        "x_test": full.x_test[test, :, :, 0],
        "y_test": full.y_test[test].astype(np.uint8),
    }


def chosen(labels: npt.NDArray[np.int32], per_class: int, random: np.random.RandomState) -> npt.NDArray[np.int64]:
    """Indices of `per_class` images of each class, ascending."""
    picks = [random.choice(np.flatnonzero(labels == label), per_class, replace=False) for label in range(CLASSES)]
    return np.sort(np.concatenate(picks))


def digest(array: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's elements in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def main() -> None:
    """Read the source, write the target, print the hashes."""
    source = sys.argv[1] if len(sys.argv) > 1 else DEBIAN_FASHION_MNIST
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else TARGET
    arrays = subset(load("idx", source))
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    for name, array in arrays.items():
        print(f"{name:8} {array.dtype} {list(array.shape)!s:16} {digest(array)}")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
