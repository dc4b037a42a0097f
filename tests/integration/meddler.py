"""`meddler.py FOLDER VERB…`: like `python FOLDER VERB…`, on a machine with faults that a test switches by files.

MEDDLE_HOLD: fsync waits while this file exists. MEDDLE_FULL: fsync fails for want of room while it exists.
MEDDLE_FLIP: once it exists, the lowest bit of one of the model's numbers is turned, again and again: a step that reads
the number before and writes it after one of these turns has undone it.
"""

from __future__ import annotations

import errno
import gc
import os
import runpy
import sys
import threading
import time
from pathlib import Path
from typing import Any

_fsync = os.fsync


def _exists(name: str) -> bool:
    return name in os.environ and Path(os.environ[name]).exists()


def _slow_or_full(descriptor: Any) -> None:
    while _exists("MEDDLE_HOLD"):
        time.sleep(0.01)
    if _exists("MEDDLE_FULL"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    _fsync(descriptor)


def _flip_later() -> None:
    while not _exists("MEDDLE_FLIP"):
        time.sleep(0.01)
    import keras
    import numpy as np

    (model,) = {id(each): each for each in gc.get_objects() if isinstance(each, keras.Sequential)}.values()
    mirrored = model.weights[0].value
    own = mirrored.values[0]
    while True:
        numbers = own.numpy()
        numbers.reshape(-1).view(np.int32)[0] ^= 1
        own.assign(numbers)
        time.sleep(0.05)


if __name__ == "__main__":
    os.fsync = _slow_or_full  # type: ignore[assignment]
    if "MEDDLE_FLIP" in os.environ:
        threading.Thread(target=_flip_later, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
