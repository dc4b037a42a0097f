"""A line that a worker prints is on the screen: `launcher up --plain` over real sshd's, or `launcher logs -f`."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gather_lab import peak_mb, percentiles
from tests.integration.far import Far, far_in
from worker.contract import records

# Each host begins at a moment of its own, as hosts do. The line's clock is read as late as can be.
PROGRAM = """
import os, random, time
time.sleep(random.random())
end = time.monotonic() + float(os.environ["SECONDS"])
while time.monotonic() < end:
    os.write(1, b"CLOCK %.6f\\n" % time.time())
    time.sleep(0.1)
"""
_SETTLED_S = 2.0  # what is printed while others are still being started does not count
_SAMPLE_S = 0.5


def on_screen(folder: Path, hosts: int, seconds: float, verb: str) -> dict[str, Any]:
    """A line every 100 ms on each host; how old it is when the screen has it. `verb` is up or logs.

    All clocks are this machine's. A line's arrival is the moment at which the read returns that brings it.
    """
    with far_in(folder, count=hosts) as far:
        spec = far.program(PROGRAM, each=f"env: {{SECONDS: '{seconds}'}}")
        if verb == "logs":
            far.launcher.run("up", str(spec), "--detach", timeout_s=120)
        command = ["up", str(spec), "--plain"] if verb == "up" else ["logs", far.launcher.newest().name, "-f"]
        screen = _Screen()
        with _started(far, command) as process:
            screen.watch(process, far)
            assert process.wait(60) == 0, "the run did not end well"
        printed = sum(path.read_bytes().count(b"\n") for path in far.launcher.newest().glob("hosts/*/g1/rank*.log"))
    since = min(stamp for stamp, _ in screen.seen) + _SETTLED_S
    ages = [arrived - stamp for stamp, arrived in screen.seen if stamp >= since]
    return {
        "hosts": hosts,
        "screen": f"launcher {verb}",
        "lines": len(ages),
        **percentiles(ages),
        "every_line_seen": len(screen.seen) == printed,
        "coordinator_cpu_percent": screen.coordinator_cpu_percent,
        "coordinator_peak_memory_mb": screen.coordinator_peak_mb,
    }


@contextlib.contextmanager
def _started(far: Far, command: list[str]) -> Any:
    line = [sys.executable, "-m", "launcher", *command]
    with subprocess.Popen(line, env=far.launcher.env, cwd=far.launcher.folder, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


@dataclass
class _Screen:
    """What a command printed, and what the coordinator took meanwhile."""

    seen: list[tuple[float, float]] = field(default_factory=list)  # the line's clock, when it was here
    coordinator_cpu_percent: float = 0.0
    coordinator_peak_mb: float = 0.0

    def watch(self, process: subprocess.Popen[bytes], far: Far) -> None:
        """Read until the command ends."""
        assert process.stdout is not None
        screen, rest = process.stdout.fileno(), b""
        coordinator: psutil.Process | None = None
        began, cpu, sampled = 0.0, 0.0, 0.0
        while True:
            ready, _, _ = select.select([screen], [], [], _SAMPLE_S)
            if ready:
                data = os.read(screen, 1 << 16)
                now = time.time()
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                self.seen += [(float(line.rpartition(b" ")[2]), now) for line in lines if b"] CLOCK " in line]
            if not self.seen or time.monotonic() - sampled < _SAMPLE_S:
                continue
            sampled = time.monotonic()
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                if coordinator is None:
                    coordinator = _coordinator(far)
                    began, cpu = sampled, sum(coordinator.cpu_times()[:2])
                elif sampled > began:
                    used = sum(coordinator.cpu_times()[:2]) - cpu
                    self.coordinator_cpu_percent = round(100 * used / (sampled - began), 1)
                self.coordinator_peak_mb = max(self.coordinator_peak_mb, peak_mb(coordinator.pid))


def _coordinator(far: Far) -> psutil.Process:
    (event,) = far.launcher.wait_event(records.COORDINATOR_STARTED, host=None)
    return psutil.Process(int(event["pid"]))
