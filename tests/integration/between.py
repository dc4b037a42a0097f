"""`between.py VERB…`: like `python -m launcher VERB…`, with a coordinator that waits between the check and the start.

It makes the file BETWEEN_HELD when every check is over, and goes on once BETWEEN_GO is there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from launcher.__main__ import main
from launcher.supervise.coordinator import Coordinator
from launcher.supervise.core.events import End

_run = Coordinator.run


def _held(self: Coordinator) -> End | None:
    Path(os.environ["BETWEEN_HELD"]).touch()
    while not Path(os.environ["BETWEEN_GO"]).exists():
        time.sleep(0.01)
    return _run(self)


if __name__ == "__main__":
    Coordinator.run = _held  # type: ignore[method-assign]
    main()
