"""Files come home, against scp: one large, and many small ones."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gather_lab import Lab, digest, forget_peak, peak_mb
from launcher.gather.complete import complete


def make_file(there: Path, megabytes: int) -> None:
    """Random bytes: nothing on the way can compress them."""
    (there / "output").mkdir(parents=True)
    with open(there / "output" / "model.keras", "wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))


def make_files(there: Path, count: int) -> None:
    """500 to 3,500 bytes each, in 20 folders."""
    for number in range(count):
        path = there / "output" / f"d{number % 20}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(500 + 3 * (number % 1000)))


def against_scp(lab: Lab, folder: Path, what: str, rounds: int) -> dict[str, Any]:
    """Seconds of each way, the order turning, connections included, and their ratio."""
    there = folder / what
    expected = digest(there / "output")
    ways: dict[str, Callable[[Path], None]] = {"ours": partial(ours, lab, there), "scp": partial(theirs, lab, there)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peak = 0.0
    for round_ in range(-1, rounds):  # the first, which brings our code to the host, counts for neither
        for name in sorted(ways, reverse=bool(round_ % 2)):
            home = folder / f"{what}-{name}-{round_}"
            home.mkdir()
            forget_peak()
            began = time.perf_counter()
            ways[name](home)
            seconds[name].append(time.perf_counter() - began)
            peak = max(peak, peak_mb())
            assert digest(home / "output") == expected, f"{name} brought something else"
            for large in home.rglob("*.keras"):
                large.unlink()
    # Only now: on ext4 whoever makes files just after many were deleted pays for looking past those, each time.
    empty_file_us = _cost_of_making_files(folder)
    for home in folder.glob(f"{what}-*"):
        shutil.rmtree(home)
    counted = {name: times[1:] for name, times in seconds.items()}
    ratios = [scp / own for own, scp in zip(counted["ours"], counted["scp"], strict=True)]
    return {
        "seconds": {name: round(statistics.median(times), 3) for name, times in counted.items()},
        "times_faster_than_scp": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "peak_memory_mb": peak,
        "making_an_empty_file_here_us": empty_file_us,
    }


def ours(lab: Lab, there: Path, home: Path) -> None:
    session = lab.connect()
    try:
        complete(session, str(there), str(home), workdir=str(home.parent / "workdir"))
    finally:
        session.close()


def theirs(lab: Lab, there: Path, home: Path) -> None:
    lab.scp(there / "output", home / "output")


def _cost_of_making_files(folder: Path, count: int = 500) -> float:
    """Microseconds a file: what both ways pay to the file system for each, and neither can help."""
    place = folder / "empty-files"
    place.mkdir()
    began = time.perf_counter()
    for number in range(count):
        os.close(os.open(place / str(number), os.O_WRONLY | os.O_CREAT))
    return round(1e6 * (time.perf_counter() - began) / count, 1)
