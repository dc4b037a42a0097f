"""What staging costs: the door, and an unchanged folder of many files beside more that are ignored.

    python -m benchmarks.staging --files 5000 --ignored 100000 --rounds 20

Everything runs on this machine, through a shell, without a network: the times are those of the launcher's own work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launcher.hosts import package
from launcher.hosts.door import enter
from launcher.hosts.local_session import LocalSession
from launcher.spec.model import SyncSpec
from launcher.stage import survey
from launcher.stage.remote import There

PATH = "/usr/local/bin:/usr/bin:/bin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--ignored", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["XDG_CACHE_HOME"] = str(place / "cache")
        measure_door(place / "far", options.rounds)
        measure_tree(place, options.files, options.ignored, options.rounds)


def measure_door(workdir: Path, rounds: int) -> None:
    session = here()
    began = time.perf_counter()
    size = len(package.installed().packed)
    print(f"package: {size / 1000:.0f} kB, made in {1000 * (time.perf_counter() - began):.0f} ms")
    first = timed(lambda: enter(session, "stage", workdir=str(workdir)))
    print(f"door, code not there: {first:.0f} ms")
    code = workdir / "code" / package.installed().digest
    by_door, by_path = [], []
    for _ in range(rounds):  # in turn, so that a busy machine is as busy for both
        by_door.append(timed(lambda: until_magic(session, str(workdir))))
        by_path.append(timed(lambda: until_magic_by_path(code)))
    print(f"to a verb's first word, through the door: {statistics.median(by_door):.0f} ms")
    print(f"to a verb's first word, by its path:      {statistics.median(by_path):.0f} ms")
    session.close()


def here() -> LocalSession:
    """This machine by its own python3: what version managers put before it takes longer than all that is measured."""
    return LocalSession("far", environ={**os.environ, "PATH": PATH})


def until_magic(session: LocalSession, workdir: str) -> None:
    channel = enter(session, "stage", workdir=workdir)
    while not channel.read():
        time.sleep(0.0005)
    channel.end_input()


def until_magic_by_path(code: Path) -> None:
    argv = ["/bin/sh", "-c", f"exec python3 -I -S {code} stage"]
    environ = {**os.environ, "PATH": PATH}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        assert process.stdin is not None
        process.stdin.close()


def measure_tree(place: Path, files: int, ignored: int, rounds: int) -> None:
    root = place / "job"
    for number in range(files):
        path = root / f"package{number % 50}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"value = {number}\n" * 100)
    (root / "data").mkdir()
    for number in range(ignored):
        (root / "data" / f"{number}.bin").touch()
    (root / ".gitignore").write_text("/data/\n")
    session = here()
    sync, runs, workdir = SyncSpec(str(root)), place / "runs", str(place / "far")
    time.sleep(2.5)  # what has just changed is read again, whatever is remembered of it

    def survey_and_bring() -> None:
        tree = survey.sources(sync, runs)
        with There(session, workdir=workdir) as there:
            there.bring(tree, "sources")

    print(f"{files} files brought the first time: {timed(survey_and_bring):.0f} ms")
    tree = survey.sources(sync, runs)
    print(f"unchanged: survey {median(lambda: survey.sources(sync, runs), rounds):.0f} ms", end=", ")
    with There(session, workdir=workdir) as there:
        print(f"on the host {median(lambda: there.bring(tree, 'sources'), rounds):.0f} ms", end=", ")
        print(f"all, with the door {median(survey_and_bring, rounds):.0f} ms")
        source = there.bring(tree, "sources")
        print(f"a run's copy of it: {timed(lambda: there.copy(source, f'{workdir}/run/far/sources/x')):.0f} ms")
        (root / "package0" / "module0.py").write_text("changed")
    print(f"one file changed: {timed(survey_and_bring):.0f} ms")
    session.close()


def median(action: Callable[[], object], rounds: int) -> float:
    return statistics.median(timed(action) for _ in range(rounds))


def timed(action: Callable[[], object]) -> float:
    """In milliseconds."""
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
