"""What this process does, written down when somebody asks by SIGUSR2. Standard library only.

The dump is made in the signal's handler, in C: it comes while TensorFlow holds the main thread, and even while some
library holds the interpreter's lock, when no line of Python can run.
"""

from __future__ import annotations

import faulthandler
import os
import signal

from .words import say

SIGNAL = signal.SIGUSR2


def show_when_asked(path: str) -> None:
    """From here on each SIGUSR2 appends the stacks of all threads to the file. Never raises."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        faulthandler.register(SIGNAL, file=descriptor, all_threads=True, chain=False)
    except (OSError, RuntimeError) as error:
        say(f"{path}: stacks cannot be shown there: {error}")
