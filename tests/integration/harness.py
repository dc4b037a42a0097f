"""The launcher as a user runs it: a command line, its own runs folder, and a count of what is still alive."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

ROOT = Path(__file__).parents[2]
TAG = "LAUNCHER_TEST_TAG"
T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
    """The first truthy value of `condition`, asked again and again; fails with `what` after the deadline."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")


@dataclass
class Terminal:
    """A launcher that runs on a terminal of its own, as a person's shell would run it."""

    process: subprocess.Popen[bytes]
    master: int
    output: bytearray = field(default_factory=bytearray)

    def read(self) -> str:
        """Everything on the terminal so far."""
        while True:
            try:
                data = os.read(self.master, 65536)
            except (BlockingIOError, OSError):
                break
            if not data:
                break
            self.output += data
        return self.output.decode("utf-8", "replace")

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def ctrl_c(self) -> None:
        self.press(b"\x03")

    def hang_up(self) -> None:
        """Close the terminal, as a window that is closed or a connection that is lost."""
        self.read()
        os.close(self.master)
        self.master = -1

    def wait(self, timeout_s: float = 30.0) -> int:
        """The exit code; reads the terminal meanwhile, so that nothing blocks."""

        def ended() -> bool:
            if self.master >= 0:
                self.read()
            return self.process.poll() is not None

        wait_for(ended, "the launcher's end", timeout_s)
        assert self.process.returncode is not None
        return self.process.returncode


class Launcher:
    """One user's launcher, with folders of its own below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = uuid.uuid4().hex
        self.runs = folder / "runs"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LAUNCHER_")},
            "PYTHONPATH": str(ROOT),
            "LAUNCHER_RUNS": str(self.runs),
            "XDG_STATE_HOME": str(folder / "state"),
            TAG: self.tag,
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    # Files.

    def spec(self, text: str, name: str = "cluster.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def program(self, source: str, workers: int = 2, extra: str = "", name: str = "program.py") -> Path:
        """A spec that runs a script of ours on every rank."""
        job = self.folder / "job"
        job.mkdir(exist_ok=True)
        (job / name).write_text(source)
        path = job / "cluster.yaml"
        path.write_text(
            f"name: test\nhosts: [{{name: here, local: true, workers: {workers}}}]\nprogram: [python, {name}]\n{extra}"
        )
        return path

    # Commands.

    def run(self, *arguments: str, timeout_s: float = 60.0, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; `check` is the exit code that it must have."""
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *arguments],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one command in the background, with its output in a file."""
        log = open(self.folder / f"command-{len(self._processes)}.log", "wb")  # noqa: SIM115 - the child's
        process = subprocess.Popen(
            [sys.executable, "-m", "launcher", *arguments],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self._processes.append(process)
        return process

    def terminal(self, *arguments: str) -> Terminal:
        """Start one command on a terminal of its own (24 × 100)."""
        master, slave = pty.openpty()
        os.set_blocking(master, False)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x28\x00\x64\x00\x00\x00\x00\x00")

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            [sys.executable, "-m", "launcher", *arguments],
            env={**self.env, "TERM": "xterm-256color"},
            cwd=self.folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self._processes.append(process)
        return Terminal(process, master)

    # What can be seen of runs.

    def newest(self) -> Path:
        """The newest run's folder."""

        def found() -> Path | None:
            runs = [p for p in self.runs.glob("*") if (p / "events.jsonl").exists()] if self.runs.exists() else []
            return max(runs, key=lambda p: p.stat().st_mtime, default=None)

        return wait_for(found, "a run folder")

    def events(self, run: Path, host: str | None = "here") -> list[dict[str, Any]]:
        """The journal of the run (host None) or of one host's agent."""
        path = run / "events.jsonl" if host is None else run / "hosts" / host / "events.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def wait_event(self, type_: str, host: str | None = "here", count: int = 1, timeout_s: float = 30.0) -> list[Any]:
        """The events of a type in the newest run, once there are `count` of them."""
        run = self.newest()

        def found() -> list[Any] | None:
            events = [e for e in self.events(run, host) if e["type"] == type_]
            return events if len(events) >= count else None

        return wait_for(found, f"{count} × {type_}", timeout_s)

    def rank_pids(self) -> list[int]:
        return [event["pid"] for event in self.wait_event("rank_started", count=2)]

    # What is alive.

    def alive(self) -> list[psutil.Process]:
        """Every process that descends from a command of ours, but for the commands that this test waits for."""
        mine = {process.pid for process in self._processes}
        return [p for p in tagged(self.tag) if p.pid not in mine]

    def close(self) -> None:
        """End whatever is left; fails if a run that should be over had anything alive."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        left = self.alive()
        described = [describe(p) for p in left]
        for p in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                p.send_signal(signal.SIGCONT)
                p.kill()
        assert described == [], "left alive"


def tagged(tag: str) -> list[psutil.Process]:
    """The living processes that carry a tag in their environment."""
    found = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if p.status() != psutil.STATUS_ZOMBIE and p.environ().get(TAG) == tag:
                found.append(p)
    return found


def describe(p: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{p.pid}: {' '.join(p.cmdline())}"
    return str(p.pid)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@contextlib.contextmanager
def launcher_in(folder: Path) -> Iterator[Launcher]:
    folder.mkdir(parents=True, exist_ok=True)
    launcher = Launcher(folder)
    try:
        yield launcher
    finally:
        launcher.close()
