"""What coming home costs, beside scp.

    python -m benchmarks.gather [--file-mb 512] [--files 2000] [--rounds 3] [--only file,files,logs,latency] [--ssh]

One large file and many small ones against scp and scp -r, over an sshd on loopback, in turn, medians and ratios within
a round; then 64 channels of logs without SSH (`--ssh` for with), and how late a paced line is with 16 hosts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from launcher.gather.again import Source
from launcher.gather.complete import complete
from launcher.gather.mirror import Mirror
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session

LINE = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--file-mb", type=int, default=512)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--lines", type=int, default=50_000, help="of each channel's log")
    parser.add_argument("--hosts", type=int, default=16, help="for the paced lines")
    parser.add_argument("--seconds", type=float, default=20.0, help="of paced lines")
    parser.add_argument("--only", default="file,files,logs,latency")
    parser.add_argument("--ssh", action="store_true", help="logs over SSH, too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    only = options.only.split(",")
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="launcher-gather-")))
        needed = {"file", "files"} & set(only) or options.ssh
        lab = stack.enter_context(lab_up(folder / "lab", options.channels if options.ssh else 1)) if needed else None
        if lab and "file" in only:
            make_file(folder / "one", options.file_mb)
            found["file"] = against_scp(lab, folder, "one", options.rounds)
        if lab and "files" in only:
            make_files(folder / "many", options.files)
            found["files"] = against_scp(lab, folder, "many", options.rounds)
        connects = lab.connects(options.channels) if lab and options.ssh else None
        if "logs" in only:
            found["logs"] = log_speed(folder / "logs", options.channels, options.lines, connects)
        if "latency" in only:
            found["latency"] = latency(folder / "paced", options.hosts, options.seconds, connects)
    found["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1)
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


@contextmanager
def lab_up(folder: Path, count: int) -> Iterator[Lab]:
    from launcher.hosts.reach import Reacher
    from tests.lab.sshd import sshd_hosts

    with sshd_hosts(folder, count=count) as hosts, Reacher(connect_s=20, config=hosts.config) as reacher:
        yield Lab(hosts, reacher)


class Lab:
    """sshd's on loopback, and sessions to them."""

    def __init__(self, hosts: Any, reacher: Any) -> None:
        self.hosts = hosts
        self._reacher = reacher

    def connect(self, index: int = 0, *, bulk: bool = True) -> Session:
        from launcher.spec.model import HostSpec, Ssh

        name = self.hosts[index].name
        host = HostSpec(name=name, ssh=Ssh(alias=name))
        session: Session = self._reacher.open(host, bulk=bulk)
        return session

    def connects(self, count: int) -> list[Callable[[], Session]]:
        return [lambda index=index: self.connect(index, bulk=False) for index in range(count)]  # type: ignore[misc]

    def scp(self, source: Path, target: Path) -> None:
        line = ["scp", "-q", "-r", "-F", str(self.hosts.config), f"{self.hosts[0].name}:{source}", str(target)]
        subprocess.run(line, check=True)


def make_file(there: Path, megabytes: int) -> None:
    """Random bytes: nothing on the way can compress them."""
    (there / "output").mkdir(parents=True)
    with open(there / "output" / "model.keras", "wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))


def make_files(there: Path, count: int) -> None:
    for number in range(count):
        path = there / "output" / f"d{number % 20}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(500 + 3 * (number % 1000)))


def against_scp(lab: Lab, folder: Path, what: str, rounds: int) -> dict[str, Any]:
    """Seconds of each way, the order turning, connections included, and their ratio."""
    there = folder / what
    expected = digest(there / "output")
    ways = {"ours": ours, "scp": theirs}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds):
        for name in sorted(ways, reverse=bool(round_ % 2)):
            home = folder / f"{what}-{name}-{round_}"
            home.mkdir()
            began = time.perf_counter()
            ways[name](lab, there, home)
            seconds[name].append(time.perf_counter() - began)
            assert digest(home / "output") == expected, f"{name} brought something else"
    # Only now: on ext4 whoever makes files just after many were deleted pays for looking past those, each time.
    for home in folder.glob(f"{what}-*"):
        shutil.rmtree(home)
    ratios = [scp / own for own, scp in zip(seconds["ours"], seconds["scp"], strict=True)]
    return {
        "seconds": {name: round(statistics.median(times), 3) for name, times in seconds.items()},
        "times_faster_than_scp": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def ours(lab: Lab, there: Path, home: Path) -> None:
    session = lab.connect()
    try:
        complete(session, str(there), str(home), workdir=str(home.parent / "workdir"))
    finally:
        session.close()


def theirs(lab: Lab, there: Path, home: Path) -> None:
    lab.scp(there / "output", home / "output")


def log_speed(
    folder: Path, channels: int, lines: int, connects: list[Callable[[], Session]] | None = None
) -> dict[str, Any]:
    """Every channel's log is written by a process of its own, as fast as it is asked to, and mirrored meanwhile."""
    sources = make_sources(folder, channels, connects)
    for source in sources:
        (Path(source.folder) / "g1").mkdir(parents=True)
    mirrors = [Mirror(source) for source in sources]
    began_cpu = time.process_time()
    with ExitStack() as stack:
        for mirror in mirrors:
            mirror.start()
            stack.callback(mirror.stop)
        for mirror in mirrors:
            assert mirror.settle(60)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(lines), *(f"{source.folder}/g1/rank0.log" for source in sources)]
        )
        began = time.perf_counter()
        code = writer.wait()
        written = time.perf_counter() - began
        assert code == 0
        for mirror in mirrors:
            assert mirror.settle(120)
        home = time.perf_counter() - began
    same = all(digest(Path(s.home) / "g1") == digest(Path(s.folder) / "g1") for s in sources)
    total = channels * lines
    return {
        "channels": channels,
        "lines": total,
        "seconds_to_write": round(written, 2),
        "seconds_to_be_home": round(home, 2),
        "lines_per_second": round(total / home),
        "coordinator_cpu_seconds": round(time.process_time() - began_cpu, 2),
        "equal": same,
    }


WRITER = """
import os, sys
lines = int(sys.argv[1])
files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in sys.argv[2:]]
step = 500
for start in range(0, lines, step):
    for file in files:
        os.write(file, b"".join(b"%099d\\n" % number for number in range(start, min(lines, start + step))))
"""


def latency(
    folder: Path, hosts: int, seconds: float, connects: list[Callable[[], Session]] | None = None
) -> dict[str, Any]:
    """A line every 50 ms on each host, with the time at which it was written; how old it is when it is home."""
    sources = make_sources(folder, hosts, connects)
    for source in sources:
        (Path(source.folder) / "g1").mkdir(parents=True)
        (Path(source.folder) / "g1/rank0.log").touch()
    mirrors = [Mirror(source) for source in sources]
    ages: list[float] = []
    stop = threading.Event()
    with ExitStack() as stack:
        for mirror in mirrors:
            mirror.start()
            stack.callback(mirror.stop)
        for mirror in mirrors:
            assert mirror.settle(60)
        reader = threading.Thread(target=watch, args=([Path(s.home) / "g1/rank0.log" for s in sources], ages, stop))
        reader.start()
        cpu = time.process_time()
        paths = [f"{source.folder}/g1/rank0.log" for source in sources]
        subprocess.run([sys.executable, "-c", PACED, str(seconds), *paths], check=True)
        for mirror in mirrors:
            assert mirror.settle(60)
        cpu = time.process_time() - cpu
        time.sleep(0.1)
        stop.set()
        reader.join()
    ages.sort()
    return {
        "hosts": hosts,
        "lines": len(ages),
        "median_ms": round(1000 * ages[len(ages) // 2], 1),
        "p99_ms": round(1000 * ages[len(ages) * 99 // 100], 1),
        "worst_ms": round(1000 * ages[-1], 1),
        "coordinator_cpu_percent": round(100 * cpu / seconds, 1),
    }


PACED = """
import os, sys, time
files = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in sys.argv[2:]]
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for file in files:
        os.write(file, b"%.6f\\n" % time.time())
        time.sleep(0.05 / len(files))
"""


def watch(paths: list[Path], ages: list[float], stop: threading.Event) -> None:
    """Look at what is home every few milliseconds."""
    files = [open(path, "rb") for path in paths]  # noqa: SIM115 - closed below
    while not stop.is_set():
        for file in files:
            now = time.time()
            ages += [now - float(line) for line in file.read().splitlines()]
        stop.wait(0.005)
    for file in files:
        file.close()


def make_sources(folder: Path, count: int, connects: list[Callable[[], Session]] | None) -> list[Source]:
    return [
        Source(
            host=f"h{n + 1}",
            folder=str(folder / "there" / f"h{n + 1}"),
            home=str(folder / "home" / f"h{n + 1}"),
            connect=connects[n] if connects else (lambda name=f"h{n + 1}": LocalSession(name)),  # type: ignore[misc]
            workdir=str(folder / "workdir"),
        )
        for n in range(count)
    ]


def digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole.update(str(path.relative_to(folder)).encode())
            with open(path, "rb") as file:
                while data := file.read(1 << 20):
                    whole.update(data)
    return whole.hexdigest()


if __name__ == "__main__":
    main()
