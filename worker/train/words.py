"""What the trainer says to whoever reads its log. Standard library only."""

from __future__ import annotations

import contextlib
import sys


def say(text: str) -> None:
    """A line on standard error. Never raises: the log may be on a full disk, and a word lost must not end training."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
