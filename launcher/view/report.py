"""The report of a run: metrics and curves as files, written whole, and the same as a table on the screen."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TextIO

from launcher.runs.folder import RunFolder
from launcher.runs.journal import cannot_write
from launcher.runs.model import RunView
from launcher.view import book, values
from launcher.view.advice import ENDED_EARLY, next_step
from launcher.view.figures import moment, real, seconds
from launcher.view.tables import print_epochs
from launcher.view.text import neutral, write


def write_report(folder: RunFolder, view: RunView, *, pictures: bool = True) -> list[Path]:
    """Write <run>/report/: metrics.json, metrics.csv and, when an epoch was done, loss.png and accuracy.png.

    Each file appears whole or not at all; pictures of an earlier report that do not hold any more are removed. May be
    called at any time and again. Returns the files, the pictures first. Raises RunError when the disk takes no more.
    """
    files: dict[str, bytes] = {}
    if pictures and view.epochs:
        from launcher.view.curves import draw

        files.update(draw(view))
    if view.epochs:
        files["metrics.csv"] = _csv(view)
    files["metrics.json"] = (json.dumps(values.report(view), indent=2, allow_nan=False) + "\n").encode()
    try:
        folder.report.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder.report, error) from error
    written = [_write_whole(folder.report / name, data) for name, data in files.items()]
    if not view.epochs:
        for name in ("loss.png", "accuracy.png", "metrics.csv"):
            (folder.report / name).unlink(missing_ok=True)
    return written


def print_report(view: RunView, files: list[Path], out: TextIO) -> None:
    """The report as text."""

    def say(text: str = "") -> None:
        write(out, neutral(text, 4000) + "\n")

    say(f"{view.run}  {view.state}{f': {view.reason}' if view.reason else ''}")
    for divergence in view.divergences:
        say(f"  diverged             {divergence.message}")
    if view.state in ENDED_EARLY:
        say(f"  next                 {next_step(view)}")
    say(f"  started              {moment(view.started_at)}")
    if view.ended and view.started_at is not None and view.ended_at is not None:
        say(f"  took                 {seconds(view.ended_at - view.started_at)}")
    say(f"  time to first step   {seconds(view.time_to_first_step_s)}")
    if view.ranks and view.ranks[0].phases:
        say(f"  of the chief's start {', '.join(f'{name} {seconds(s)}' for name, s in view.ranks[0].phases)}")
    say(f"  workers, generations {view.workers or 0}, {len(view.generations)}")
    say()
    if view.epochs:
        print_epochs(view, out)
    else:
        say("no epoch was finished, so there are no curves")
    if view.booking:
        say()
        book.print_time(view.booking, out)
        say()
        book.print_generations(view.booking, out)
    say()
    say(f"  test loss      {real(view.test_loss)}")
    say(f"  test accuracy  {real(view.test_accuracy)}")
    say(f"  model          {view.model or 'none'}")
    for path in files:
        say(f"  {path.name:14} {path}")


def _csv(view: RunView) -> bytes:
    text = io.StringIO()
    rows = values.rows(view.epochs)
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def _write_whole(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    return path
