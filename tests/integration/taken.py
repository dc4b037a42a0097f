"""A run on other machines whose coordinator is killed, and what must be true of it at its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.far import Far
from tests.integration.harness import is_alive, wait_for
from tests.integration.there import nothing_alive, same_at_home
from worker.contract import records

# Prints numbered lines until it may go. Its first life ends with a failure on the host that the file DIE names.
COUNTS = """\
import os, sys, time
number = 0
print("life", os.environ["LAUNCHER_GENERATION"], "as it was", flush=True)
def dies():
    first = os.environ["LAUNCHER_GENERATION"] == "1" and os.path.exists(os.environ["DIE"])
    return first and open(os.environ["DIE"]).read() == os.environ["LAUNCHER_HOST"]
while not os.path.exists(os.environ["GO"]):
    print("line", number, flush=True)
    number += 1
    if dies():
        os.kill(os.getpid(), 9)
    time.sleep(0.02)
output = os.environ["LAUNCHER_OUTPUT_DIR"]
open(os.path.join(output, "result.bin"), "wb").write(os.urandom(300000))
print("end after", number, flush=True)
"""
SHORT = "timeouts: {stop: 1 s, host: 3 s, connect: 5 s}\nrestart: {backoff: 0.1 s}\n"


class Run:
    """A run whose program has been started everywhere, or is about to be."""

    def __init__(self, far: Far, extra: str = SHORT, each: str = "", start: bool = True, source: str = COUNTS) -> None:
        self.far = far
        self.go, self.die = far.launcher.folder / "go", far.launcher.folder / "die"
        variables = f"env: {{GO: {self.go}, DIE: {self.die}}}"
        self.spec = far.program(source, extra, each=f"{each}, {variables}" if each else variables)
        if start:
            far.launcher.run("up", "-d", str(self.spec))
            self.started()

    @property
    def folder(self) -> Path:
        return self.far.launcher.newest()

    def started(self, generation: int = 1) -> None:
        for host in self.far.hosts:
            wait_for(lambda host=host: self.of(host.name, records.RANK_STARTED, generation), f"ranks of {host.name}")  # type: ignore[misc]

    def of(self, host: str | None, type_: str, generation: int | None = None) -> list[dict[str, Any]]:
        events = self.far.launcher.events(self.folder, host)
        return [e for e in events if e["type"] == type_ and generation in (None, e.get("generation"))]

    def kill_coordinator(self) -> None:
        pid = self.of(None, records.COORDINATOR_STARTED)[-1]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid), "the coordinator's death")

    def attach(self, *arguments: str) -> Callable[[], int]:
        """Starts `attach`; what is returned waits for its end, and gives its exit code."""
        process = self.far.launcher.start("attach", "--plain", *arguments)
        return lambda: process.wait(40)

    def taken_over(self, term: int = 2) -> None:
        wait_for(lambda: len(self.of(None, records.COORDINATOR_STARTED)) >= term, "another coordinator")

    def is_whole(self, generation: int) -> None:
        """It has trained, every line is at home, what it leaves is there once, and nothing lives."""
        (end,) = self.of(None, records.RUN_ENDED)
        assert (end["state"], end["exit_code"]) == ("trained", 0)
        terms = [e["term"] for e in self.of(None, records.COORDINATOR_STARTED)]
        assert terms == sorted(set(terms))
        begun = [e["generation"] for e in self.of(None, records.GENERATION_STARTED)]
        assert begun == list(range(1, generation + 1))
        same_at_home(self.far, self.folder)
        for rank, host in enumerate(self.far.hosts):
            log = self.folder / "hosts" / host.name / f"g{generation}" / f"rank{rank}.log"
            lines = log.read_text().splitlines()
            assert lines[0] == f"life {generation} as it was"
            assert lines[-1] == f"end after {len(lines) - 2}"
        assert (self.folder / "hosts" / "h1" / "output" / "result.bin").stat().st_size == 300000
        nothing_alive(self.far)
