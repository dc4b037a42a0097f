"""The ends of log files, without reading the whole of them."""

from __future__ import annotations

import os

TAIL_BYTES = 64 * 1024


def last_lines(path: str, count: int) -> list[str]:
    """The last `count` lines of a file, at most 64 KiB of it; bytes that are not UTF-8 are replaced. [] if unreadable.

    Control characters stay: whoever shows the lines neutralises them.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
    except OSError:
        return []
    return data.decode("utf-8", "replace").splitlines()[-count:]
