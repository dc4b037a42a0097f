"""The user's own programs that are told of a run: `coordinator.on_event` and `coordinator.on_end`.

They are called beside the run and never hold it up: by threads that wait for them, events in the order in which they
happened, one at a time. What goes wrong with them is told once and harms nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from launcher.runs.fields import integer, text
from launcher.runs.folder import RunFolder
from launcher.spec.model import CoordinatorSpec
from worker.contract import names, records
from worker.contract.records import Record
from worker.contract.states import RunState

MOST_WAITING = 256
CALL_S = 30.0
END_S = 10.0  # how long the end of a run waits for them, all together
_MOST_CAUSE = 2000


class Hooks:
    """Tell it of each record that is written; take what it has to say itself by `remarks`."""

    def __init__(self, run: RunFolder, spec: CoordinatorSpec, call_s: float = CALL_S, end_s: float = END_S) -> None:
        self._run = run
        self._on_event, self._on_end = spec.on_event, spec.on_end
        self._call_s, self._end_s = call_s, end_s
        self._waiting: queue.Queue[tuple[Record, dict[str, str]] | None] = queue.Queue(MOST_WAITING)
        self._threads: list[threading.Thread] = []
        self._running: set[subprocess.Popen[bytes]] = set()
        self._remarks: deque[str] = deque(maxlen=10)
        self._complained: set[str] = set()
        self._state = RunState.PREPARING.value
        self._cause = ""
        self._end: Record | None = None
        self._dropped = 0
        self._closing = False

    def happened(self, record: Record) -> None:
        """Never blocks and never raises. An event for which there is no room is dropped; the end tells how many."""
        self._keep(record)
        if not self._on_event or self._closing:
            return
        try:
            self._waiting.put_nowait((record, self._environment(record)))
        except queue.Full:
            self._dropped += 1
        if not self._threads:
            self._thread(self._call_on_events)

    def remarks(self) -> list[str]:
        """What a person should know of them, once."""
        found = []
        while self._remarks:
            found.append(self._remarks.popleft())
        return found

    def finish(self) -> list[str]:
        """The run has ended: calls `on_end` if that was written down, waits some seconds for all calls, and ends what
        is still running then. Returns what is to be told of it. Call it once."""
        deadline = time.monotonic() + self._end_s
        if self._on_end and self._end is not None:
            end, environment = self._end, self._environment(self._end)
            self._thread(lambda: self._call("on_end", self._on_end, end, environment))
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=self._end_s if self._threads else 0)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._closing = True
        for process in list(self._running):
            _kill(process)
        for thread in self._threads:
            thread.join(1.0)
        left = self._dropped + sum(item is not None for item in self._waiting.queue)
        if left:
            self._note(f"on_event was not told of {left} events")
            self._remarks.append(f"coordinator.on_event was not told of {left} events: it is slower than what happens")
        return self.remarks()

    def _keep(self, record: Record) -> None:
        kind = record["type"]
        if kind in (records.RUN_STATE, records.RUN_ENDED):
            self._state = text(record, "state") or self._state
        if kind == records.COORDINATOR_STARTED:
            self._cause, self._end = "", None
        elif kind in (records.CAUSE, records.RESTART):
            self._cause = _told(record)
        elif kind == records.RUN_ENDED:
            self._end = record
            self._cause = "" if self._state == RunState.TRAINED.value else self._cause or text(record, "message")

    def _environment(self, record: Record) -> dict[str, str]:
        return {
            names.RUN: self._run.name,
            "LAUNCHER_RUN_FOLDER": str(self._run.path),
            "LAUNCHER_EVENT": str(record["type"]),
            "LAUNCHER_STATE": self._state,
            "LAUNCHER_CAUSE": self._cause.replace("\0", "")[:_MOST_CAUSE],
        }

    def _thread(self, body: Callable[[], None]) -> None:
        thread = threading.Thread(target=body, name="hooks", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _call_on_events(self) -> None:
        while (item := self._waiting.get()) is not None and not self._closing:
            self._call("on_event", self._on_event, *item)

    def _call(self, name: str, program: str | None, record: Record, environment: Mapping[str, str]) -> None:
        """Blocks until the program has ended or was ended."""
        assert program is not None
        try:
            with open(self._run.hooks_log, "ab") as log:
                process = subprocess.Popen(
                    [program],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._run.path,
                    env={**os.environ, **environment},
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            self._complain(name, f"cannot be run: {program}: {getattr(error, 'strerror', None) or error}")
            return
        self._running.add(process)
        try:
            process.communicate(json.dumps(record).encode() + b"\n", timeout=self._call_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            self._complain(name, f"was ended after {self._call_s:g} s: {program}")
        except OSError as error:
            self._complain(name, f"could not be told: {program}: {error.strerror}")
        else:
            if process.returncode and not self._closing:
                how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
                self._complain(name, f"ended with {how}: {program}")
            elif self._closing:
                self._complain(name, f"was ended with the run, after {self._end_s:g} s: {program}")
        finally:
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            process.wait()
            self._running.discard(process)

    def _complain(self, name: str, what: str) -> None:
        """Everything into the log, the first of each kind to a person."""
        told = f"coordinator.{name} {what}"
        self._note(told)
        if name not in self._complained:
            self._complained.add(name)
            self._remarks.append(f"{told} (what it prints: {self._run.hooks_log})")

    def _note(self, line: str) -> None:
        with contextlib.suppress(OSError), open(self._run.hooks_log, "a") as log:
            log.write(f"launcher: {line}\n")


def _told(record: Record) -> str:
    rank, host = integer(record, "rank"), text(record, "host")
    where = f"rank {rank} on {host}" if rank is not None else host
    parts = (where, text(record, "how"), text(record, "message"))
    return ": ".join(dict.fromkeys(part for part in parts if part))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It and whatever it has started, as long as it stayed in its group."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
