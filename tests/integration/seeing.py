"""`seeing.py FOLDER VERB…`: like `python FOLDER VERB…`, and what a rank has restored from a checkpoint is saved.

It lies in restored.npz in the rank's output folder.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    start = runpy.run_path(sys.argv[0] + "/__main__.py", run_name="not main")
    start["clean_path"]()
    start["load_package"]()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    state: Any = importlib.import_module(start["PRIVATE_NAME"] + ".train.state")
    restore = state.restore

    def restore_and_show(parts: Any, arrays: Any) -> None:
        restore(parts, arrays)
        np.savez(Path(os.environ["LAUNCHER_OUTPUT_DIR"]) / "restored.npz", **state.snapshot(parts))

    state.restore = restore_and_show
    verbs = importlib.import_module(start["PRIVATE_NAME"] + ".verbs")
    sys.exit(verbs.main(sys.argv[1:]))
