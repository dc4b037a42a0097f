"""Logs come home as they are written: how many lines in a second, and how old a line is when it is there."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.gather_lab import Lab, digest, forget_peak, make_sources, peak_mb, percentiles
from launcher.gather.mirror import Mirror

WRITER = """
import os, sys
lines = int(sys.argv[1])
files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in sys.argv[2:]]
step = 500
for start in range(0, lines, step):
    for file in files:
        os.write(file, b"".join(b"%099d\\n" % number for number in range(start, min(lines, start + step))))
"""
PACED = """
import os, sys, time
files = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in sys.argv[2:]]
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for file in files:
        os.write(file, b"%.6f\\n" % time.time())
        time.sleep(0.05 / len(files))
"""


def speed(folder: Path, channels: int, lines: int, lab: Lab | None) -> dict[str, Any]:
    """One process writes every channel's log as fast as it can, 100 bytes a line; they are mirrored meanwhile."""
    sources = make_sources(folder, channels, lab)
    mirrors = [Mirror(source) for source in sources]
    paths = [f"{source.folder}/g1/rank0.log" for source in sources]
    with ExitStack() as stack:
        for mirror in mirrors:
            mirror.start()
            stack.callback(mirror.stop)
        for mirror in mirrors:
            assert mirror.settle(60)
        forget_peak()
        cpu = time.process_time()
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", WRITER, str(lines), *paths], check=True)
        written = time.perf_counter() - began
        for mirror in mirrors:
            assert mirror.settle(120)
        home = time.perf_counter() - began
        cpu = time.process_time() - cpu
        peak = peak_mb()
    total = channels * lines
    return {
        "channels": channels,
        "lines": total,
        "seconds_to_write": round(written, 2),
        "seconds_to_be_home": round(home, 2),
        "lines_per_second": round(total / home),
        "coordinator_cpu_seconds": round(cpu, 2),
        "peak_memory_mb": peak,
        "every_byte_equal": all(digest(Path(s.home) / "g1") == digest(Path(s.folder) / "g1") for s in sources),
    }


def age_at_home(folder: Path, hosts: int, seconds: float, lab: Lab | None) -> dict[str, Any]:
    """A line every 50 ms on each host with the time at which it was written: how old it is in home's file."""
    sources = make_sources(folder, hosts, lab)
    paths = [f"{source.folder}/g1/rank0.log" for source in sources]
    for path in paths:
        Path(path).touch()
    mirrors = [Mirror(source) for source in sources]
    ages: list[float] = []
    stop = threading.Event()
    with ExitStack() as stack:
        for mirror in mirrors:
            mirror.start()
            stack.callback(mirror.stop)
        for mirror in mirrors:
            assert mirror.settle(60)
        reader = threading.Thread(target=_watch, args=([Path(s.home) / "g1/rank0.log" for s in sources], ages, stop))
        reader.start()
        cpu = time.process_time()
        subprocess.run([sys.executable, "-c", PACED, str(seconds), *paths], check=True)
        for mirror in mirrors:
            assert mirror.settle(60)
        cpu = time.process_time() - cpu
        stop.set()
        reader.join()
    return {
        "hosts": hosts,
        "lines": len(ages),
        **percentiles(ages),
        "coordinator_cpu_percent": round(100 * cpu / seconds, 1),
    }


def _watch(paths: list[Path], ages: list[float], stop: threading.Event) -> None:
    """Look at what is home every few milliseconds, and once more at the end."""
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "rb")) for path in paths]
        last = False
        while not last:
            last = stop.wait(0.005)
            for file in files:
                now = time.time()
                ages += [now - float(line) for line in file.read().splitlines()]
