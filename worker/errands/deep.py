"""`deep`: start this host's workers of a trial all-reduce, and tell how each of them ended.

The coordinator sends start {workdir, ranks: [{rank, argv, env}], gone}. Then come alive {} once a second, ended {rank,
exit, said, last} for each rank that has ended (`said` is its result, null without one; `last` the end of what it
printed), and over {} at the end. When one rank fails the others here are killed: they would wait for it without limit.
The end of the input kills all. Nothing is left: what they print and their temporary files lie in a folder of their own.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Any, Dict, List, Mapping

from ..agent import processes
from ..contract import names
from .look.places import absolute
from .talk import Talk

MARK = "launcher-deep "
_LOOKS_S = 0.1
_ALIVE_S = 1.0
_LAST = 4000


def main(argv: List[str]) -> int:  # noqa: ARG001
    """One trial."""
    talk = Talk()
    frame = talk.receive()
    if frame is None:
        return 0
    order = frame[0]
    # Nothing said: wherever temporary files are kept.
    workdir = absolute(str(order["workdir"])) if order["workdir"] else None
    folder = tempfile.mkdtemp(prefix="launcher-deep-", dir=workdir)
    ranks: List[Rank] = []
    try:
        for one in order["ranks"]:
            ranks.append(Rank(one, folder, [str(name) for name in order.get("gone") or ()]))
        _mind(talk, ranks)
    finally:
        for rank in ranks:
            rank.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _mind(talk: Talk, ranks: List["Rank"]) -> None:
    told = time.monotonic()
    running = list(ranks)
    while running:
        if talk.pending or select.select([talk.input_fileno()], [], [], _LOOKS_S)[0]:
            return  # nothing more is expected but the end: whoever asked is not interested any more
        for rank in list(running):
            code = rank.process.poll()
            if code is None:
                continue
            running.remove(rank)
            talk.send({"type": "ended", "rank": rank.number, "exit": code, **rank.words()})
            if code:
                for other in running:
                    other.kill()
        if time.monotonic() - told > _ALIVE_S:
            told = time.monotonic()
            talk.send({"type": "alive"})
    talk.send({"type": "over"})


class Rank:
    """A worker's process, in a session of its own, and what it prints."""

    def __init__(self, order: Mapping[str, Any], folder: str, gone: List[str]) -> None:
        self.number = int(order["rank"])
        self._log = os.path.join(folder, f"rank{self.number}.log")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LAUNCHER_")}
        for name in (names.TF_CONFIG, *gone):
            inherited.pop(name, None)
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in order["argv"]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**inherited, **{str(k): str(v) for k, v in order["env"].items()}, "TMPDIR": folder},
                start_new_session=True,
                preexec_fn=_die_with_us,
            )

    def words(self) -> Dict[str, Any]:
        """What it said: its result, and the end of everything."""
        with open(self._log, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LAST))
            text = log.read().decode("utf-8", "replace")
        said: Any = None
        for line in text.splitlines():
            if line.startswith(MARK):
                said = json.loads(line[len(MARK) :])
        return {"said": said, "last": text}

    def kill(self) -> None:
        """End it and all that it has started in its group."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except OSError:
                self.process.kill()
            self.process.wait()


def _die_with_us() -> None:
    processes.prctl(processes.PR_SET_PDEATHSIG, signal.SIGKILL)
