"""The data set of a chaos run, and a witness in every rank: who trains, and what it has printed.

Rides on `train.dataset`, which every rank calls once in each of its lives, after it has joined its peers and before it
trains. It is staged and run as any user's code is, and imports nothing of the launcher.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

import numpy as np

IMAGES, TEST_IMAGES, CLASSES = 1280, 128, 10
EVERY_S = 0.02


def load(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Blots whose place tells their class: learnt soon, and never so well that a step changes nothing."""
    if "CHAOS_WITNESS" in os.environ and "LAUNCHER_RANK" in os.environ:
        _bear_witness(Path(os.environ["CHAOS_WITNESS"]))
    chance = np.random.RandomState(seed)
    count = IMAGES + TEST_IMAGES
    labels = chance.randint(0, CLASSES, count)
    images = chance.randint(0, 160, (count, 18, 18, 1))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[5 * row : 5 * row + 4, 4 * column : 4 * column + 4] += 60
    images = images.astype(np.uint8)
    return images[:IMAGES], labels[:IMAGES], images[IMAGES:], labels[IMAGES:]


def _bear_witness(place: Path) -> None:
    rank, generation = os.environ["LAUNCHER_RANK"], os.environ["LAUNCHER_GENERATION"]
    # The kernel lets go of the lock with the process: whoever finds it held has a living twin.
    lock = os.open(place / f"rank{rank}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        twin = os.pread(lock, 100, 0).decode()
        (place / f"twins-rank{rank}-g{generation}").write_text(f"g{generation} met {twin}")
    os.pwrite(lock, f"g{generation} pid {os.getpid()}".ljust(40).encode(), 0)
    count = os.open(place / f"g{generation}-rank{rank}.count", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    threading.Thread(target=_count, args=(rank, generation, count), daemon=True).start()


def _count(rank: str, generation: str, count: int) -> None:
    """Number after number on standard output; the witness writes down each one that was taken whole."""
    number = 0
    while True:
        number += 1
        line = f"#{generation}.{rank}.{number}#\n".encode()
        while not _printed(line):
            line = b"\n" + line.lstrip(b"\n")  # a full disk may have taken half of it: once more, on a line of its own
            time.sleep(EVERY_S)
        os.pwrite(count, b"%12d" % number, 0)
        time.sleep(EVERY_S)


def _printed(line: bytes) -> bool:
    with contextlib.suppress(OSError):
        return os.write(1, line) == len(line)
    return False
