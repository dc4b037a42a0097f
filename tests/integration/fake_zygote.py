"""A stand-in for the staged package: `zygote` is the real one without TensorFlow, `train` is the fake trainer.

What a rank does is in LAUNCHER_DOES, the arguments of the fake trainer. How the zygote misbehaves is in FAKE_ZYGOTE:
cannot  dies  hangs  thread  gpu  mute  crash  slow:FILE
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.005)


def prepare(fault: str) -> None:
    what, _, path = fault.partition(":")
    if what == "cannot":
        raise ImportError("no module named tensorflow")
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hangs":
        time.sleep(600)
    if what == "thread":
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    if what == "slow":
        wait_for(path)


def train(*_: Any) -> int:
    if os.environ.get("FAKE_ZYGOTE") == "crash" and os.environ["LAUNCHER_GENERATION"] == "1":
        os.kill(os.getpid(), signal.SIGSEGV)
    from tests.integration import fake_trainer

    fake_trainer.RANK = int(os.environ["LAUNCHER_RANK"])
    fake_trainer.GENERATION = int(os.environ["LAUNCHER_GENERATION"])
    with contextlib.suppress(KeyboardInterrupt):
        for argument in os.environ["LAUNCHER_DOES"].split():
            fake_trainer.act(*argument.partition(":")[::2])
    return 0


def zygote() -> int:
    from worker.train import main as trainer
    from worker.train import zygote as real

    fault = os.environ.get("FAKE_ZYGOTE", "")
    setattr(real, "_prepare", lambda: prepare(fault))  # noqa: B010
    setattr(trainer, "main", train)  # noqa: B010
    if fault == "mute":
        setattr(real, "_fork", lambda _: time.sleep(600))  # noqa: B010
    if fault == "gpu":
        links = os.readlink
        setattr(os, "readlink", lambda path: "/dev/nvidia0" if path == "/proc/self/fd/0" else links(path))  # noqa: B010
    return real.main([])


if __name__ == "__main__":
    os.environ.setdefault("LAUNCHER_RANK", "0")  # for the fake trainer's import
    os.environ.setdefault("LAUNCHER_GENERATION", "0")
    sys.exit(zygote() if sys.argv[1] == "zygote" else train())
