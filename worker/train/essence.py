"""What a message of TensorFlow's comes down to: one line out of many. Standard library only."""

from __future__ import annotations

import re

MOST = 500
_ABORTED = re.compile(r"Collective ops is aborted by: (.+)")
_TASK = re.compile(r"remote target /job:\w+/replica:\d+/task:(\d+)")
# Headings, places in a graph, and what gRPC repeats.
_BESIDE = re.compile(
    r"Graph execution error:|Detected at node|defined at|Stack trace for op definition|\s|\[\[|\d+ root error|"
    r"The error could be from a previous operation|Additional GRPC error information|:UNKNOWN:|$"
)


def essence(text: str) -> str:
    """The line that says what went wrong, 500 characters at most; empty for an empty message."""
    if aborted := _ABORTED.search(text):
        return aborted.group(1).strip()[:MOST]
    lines = [line.rstrip() for line in text.splitlines()]
    said = [line for line in lines if not _BESIDE.match(line)]
    # Where a graph's error was found comes before what it was.
    return (
        said[-1] if lines and lines[0].startswith("Graph execution error") and said else (said or lines or [""])[0]
    )[:MOST]


def task_of(text: str) -> int | None:
    """The task that gRPC was speaking to, where it says so."""
    found = _TASK.search(text)
    return int(found.group(1)) if found else None
