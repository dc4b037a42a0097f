"""`launcher fetch`: everything that a run has left on its hosts comes home."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Optional, TextIO

import typer

from launcher.cli.options import RunName
from launcher.errors import LauncherError, NotFitError
from worker.contract.states import ExitCode

if TYPE_CHECKING:
    from launcher.gather.again import Source
    from launcher.gather.complete import Completed, Progress
    from launcher.gather.copies import Copies

Keep = Annotated[
    Optional[int],  # noqa: UP045 - typer reads the annotation at run time
    typer.Option("--keep", min=1, help="How many checkpoints are kept here; default: all there are."),
]
_AT_ONCE = 8
_TRIES = 5
_SHOW_EVERY_S = 2.0


def fetch(run_name: RunName = None, keep: Keep = None) -> int:
    """Bring home all that a run has left on its hosts: logs, checkpoints, output. What is here already is not sent.

    A run brings its files home by itself. This is for one whose coordinator died, whose connection broke for good, or
    of which `home: newest` left older checkpoints on the hosts. It may be interrupted, and goes on where it was.

    Exit codes: 0 all is here, 2 bad usage, 3 a host cannot be reached.

    Example:  launcher fetch fashion-cnn
    """
    import os
    import sys

    from launcher.runs import listing
    from launcher.supervise import abroad
    from launcher.view.waiting import Waiting

    run = listing.find(run_name, listing.known_folders(os.environ), for_reading=True)
    hosts = abroad.far_hosts(run)
    if not hosts:
        typer.echo(f"{run.name}: all its hosts are this machine; its files are in {run.path}")
        return int(ExitCode.TRAINED)
    with Waiting(sys.stderr) as waiting, abroad.reached(run, hosts, waiting) as made:
        found = fetch_hosts(abroad.sources(run, hosts, made), sys.stdout, keep=keep, copies=abroad.copies(run))
    failed = {host: done for host, done in found.items() if isinstance(done, LauncherError)}
    for host, error in failed.items():
        typer.echo(f"{host}: {error.message}" + (f"\n    next: {error.hint}" if error.hint else ""), err=True)
    return int(ExitCode.NOT_FIT if failed else ExitCode.TRAINED)


def fetch_hosts(
    sources: Sequence[Source], out: TextIO, *, keep: int | None = None, copies: Copies | None = None
) -> dict[str, Completed | LauncherError]:
    """Complete what is at home of every host, several at once; by host what is here now, or why it is not all here.

    A connection that breaks is opened again, a few times; every host is tried, whatever becomes of the others. Of a
    checkpoint that several have, one copy comes if there are `copies`.
    """
    from launcher.gather.copies import Copies

    copies = copies or Copies({}, shared=False)
    for source in sources:
        copies.join(source.host)
    shown = _Shown(out)
    found: dict[str, Completed | LauncherError] = {}
    stopping = threading.Event()
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, max(1, len(sources)))) as pool:
        jobs = {source.host: pool.submit(_fetch, source, keep, copies, shown, stopping) for source in sources}
        try:
            for host, job in jobs.items():
                found[host] = job.result()
        except KeyboardInterrupt:
            stopping.set()
            for job in jobs.values():
                job.cancel()
            raise
    return found


def _fetch(
    source: Source, keep: int | None, copies: Copies, shown: _Shown, stopping: threading.Event
) -> Completed | LauncherError:
    try:
        return _fetch_again_and_again(source, keep, copies, shown, stopping)
    finally:
        copies.over(source.host)


def _fetch_again_and_again(
    source: Source, keep: int | None, copies: Copies, shown: _Shown, stopping: threading.Event
) -> Completed | LauncherError:
    from launcher.gather.complete import complete

    for attempt in range(_TRIES):
        try:
            session = source.connect()
            try:
                done = complete(
                    session,
                    source.folder,
                    source.home,
                    workdir=source.workdir,
                    keep=keep,
                    copies=copies,
                    progress=shown.progress,
                    stopping=stopping,
                )
            finally:
                if source.closes:
                    session.close()
        except NotFitError as error:
            copies.away(source.host)
            if attempt + 1 == _TRIES or stopping.wait(min(8.0, 0.5 * 2**attempt)):
                return error
        except LauncherError as error:
            return error
        else:
            shown.done(done)
            return done
    raise AssertionError("the last try returns")


class _Shown:
    """One line now and then for each host, and one at its end. From any thread."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._at: dict[str, float] = {}

    def progress(self, progress: Progress) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._at.setdefault(progress.host, now) < _SHOW_EVERY_S:
                return
            self._at[progress.host] = now
            print(f"{progress.host}: {progress.what}: {_size(progress.bytes)} so far", file=self._out, flush=True)

    def done(self, done: Completed) -> None:
        from launcher.view.text import neutral, write

        with self._lock:
            counts = f"{len(done.logs)} logs, {len(done.checkpoints)} checkpoints, {len(done.output)} output files"
            came = f"{_size(done.bytes)} came" if done.bytes else "nothing was missing"
            print(f"{done.host}: {counts} are here; {came}", file=self._out, flush=True)
            for problem in done.problems:
                write(self._out, f"{done.host}: {neutral(problem)}\n")


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
