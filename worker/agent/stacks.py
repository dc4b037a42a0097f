"""What Python's faulthandler wrote of a rank's threads: where it stands, and whether it waits there. Pure.

The format is that of `faulthandler.dump_traceback`: a line for each thread, then its frames, the innermost first. The
main thread comes last, as it was there first.
"""

from __future__ import annotations

import os
import re
from typing import List, NamedTuple, Optional, Sequence

_THREAD = re.compile(r"(?:Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):")
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.+)')
_RAISED = re.compile(r"[A-Za-z_][\w.]*(:|$)")  # frames and their lines of source are indented
_MOST_LOG = 1 << 15
_MOST_LINE = 500
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python")
_TRAINER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "train", "")

# Where a rank of the trainer waits for its peers: nothing else there takes long.
MEETINGS = {
    "strategy.py": ("join",),
    "step.py": ("chunk",),
    "evaluate.py": ("evaluate",),
    "agreement.py": ("check", "farewell", "_gather"),
}


class Frame(NamedTuple):
    file: str
    line: str
    function: str

    @property
    def shown(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line} in {self.function}"


class Place(NamedTuple):
    """`waits`: None if no stack says. `at`: the innermost line of the user's own code, else of the trainer's."""

    waits: Optional[bool]
    at: str


def place(text: str, trainer: str = _TRAINER) -> Place:
    """Where the rank stands that wrote this. `trainer` is the folder of the trainer's modules."""
    stacks = threads(text)
    if not stacks:
        return Place(None, "")
    own = [[frame for frame in stack if not _of_library(frame)] for stack in stacks]
    main = own[-1]
    if not main:
        return Place(None, "")
    innermost = main[0]
    if not innermost.file.startswith(trainer):
        return Place(False, innermost.shown)
    if innermost.function in MEETINGS.get(innermost.file[len(trainer) :], ()):
        return Place(True, innermost.shown)
    # TensorFlow calls a user's functions in threads of its own, too: replicas, pipelines.
    users = next((frame for stack in own[:-1] for frame in stack[:1] if not frame.file.startswith(trainer)), None)
    return Place(False, (users or innermost).shown)


def threads(text: str) -> List[Sequence[Frame]]:
    """The frames of each thread, the innermost first; threads without any are left out."""
    found: List[List[Frame]] = []
    for line in text.splitlines():
        if _THREAD.match(line):
            found.append([])
        frame = _FRAME.fullmatch(line)
        if frame and found:
            found[-1].append(Frame(frame["file"], frame["line"], frame["function"]))
    return [stack for stack in found if stack]


def raised(log: str) -> str:
    """The last line of a traceback that is near the end of a log: `ValueError: no such row`. Never raises."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_LOG))
            lines = file.read(_MOST_LOG).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    begin = max((at for at, line in enumerate(lines) if line.startswith("Traceback (most recent call")), default=-1)
    if begin < 0:
        return ""
    return next((line[:_MOST_LINE] for line in lines[begin + 1 :] if _RAISED.match(line)), "")


def _of_library(frame: Frame) -> bool:
    return frame.file.startswith("<") or any(part in frame.file for part in _LIBRARIES)
