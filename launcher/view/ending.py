"""The last thing on the screen: what became of the run, and the next step. When it failed, the cause comes last."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from launcher.runs.folder import RunFolder
from launcher.runs.model import Cause, RunView
from launcher.runs.tail import last_lines
from launcher.view import book
from launcher.view.advice import next_step
from launcher.view.figures import real, seconds
from launcher.view.noise import is_noise
from launcher.view.tables import print_epochs
from launcher.view.text import neutral, write
from worker.contract.states import RunState

LAST_LINES = 15
_LOOK_BACK = 60


def print_ending(view: RunView, out: TextIO, *, report: Sequence[Path] = (), remarks: Sequence[str] = ()) -> None:
    """Say what became of a run that a view has followed to its end, or that goes on without its coordinator.

    `remarks`: those that came after the view had ended.
    """
    say = Says(out)
    say.line()
    if view.epochs:
        print_epochs(view, out)
        say.line()
    if view.test_accuracy is not None or view.test_loss is not None:
        say.line(f"test accuracy {real(view.test_accuracy)}, loss {real(view.test_loss)}")
    if view.booking and len(view.booking.lives) > 1:
        again = sum(life.done_again for life in view.booking.lives)
        say.line(f"time:   {book.line(view.booking)}")
        say.line(
            f"{len(view.booking.lives)} generations, {again} steps done again: launcher report {shlex.quote(view.run)}"
        )
    if view.model:
        say.line(f"model:  {view.model}")
    if report:
        say.line(f"report: {report[0].parent} ({', '.join(path.name for path in report)})")
    for text in remarks:
        say.line(text)
    if not view.ended:
        _goes_on(view, say)
    elif view.state == RunState.TRAINED:
        say.line(_headline(view))
    elif view.state in (RunState.FAILED, RunState.FAULTY, RunState.NOT_FIT):
        _failed(view, say)
    else:
        _resumable(view, say)
    out.flush()


class Says:
    """Lines of ours on a stream; whatever they quote is neutralised."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def line(self, text: str = "") -> None:
        write(self._out, neutral(text, 4000) + "\n")


def _headline(view: RunView) -> str:
    took = ""
    if view.started_at is not None and view.ended_at is not None:
        took = f" after {seconds(view.ended_at - view.started_at)}"
    first = f" (first step after {seconds(view.time_to_first_step_s)})" if view.time_to_first_step_s else ""
    if view.state == RunState.TRAINED:
        return f"{view.run}: trained{took.replace('after', 'in')}{first}"
    return f"{view.run}: {view.state}{took}{f': {view.reason}' if view.reason else ''}"


def _goes_on(view: RunView, say: Says) -> None:
    say.line(f"{view.run}: {view.state}: {view.reason}")
    run = shlex.quote(view.run)
    say.line(f"  see:  launcher status {run}, launcher logs -f {run}")
    say.line(f"  stop: launcher down {run}")


def _resumable(view: RunView, say: Says) -> None:
    say.line(_headline(view))
    if (newest := view.newest_checkpoint) is not None:
        say.line(f"  checkpoint: {newest.path}")
    else:
        say.line("  no checkpoint was made: a resumed run starts from the beginning")
    say.line(f"  go on: launcher resume {shlex.quote(view.run)}")


def _failed(view: RunView, say: Says) -> None:
    say.line(_headline(view))
    cause = view.cause
    if cause is None:
        say.line(f"  next: {next_step(view)}")
        return
    where = f"rank {cause.rank} on {cause.host}" if cause.rank is not None else cause.host or "the coordinator"
    ended = f"ended with {cause.how}" if cause.rank is not None else cause.how
    say.line(f"cause: {where}: {ended}" + (f" (generation {cause.generation})" if cause.generation > 1 else ""))
    if cause.message:
        for text in cause.message.splitlines()[:20]:
            say.line(f"  {text}")
    log = _log(view, cause)
    lines = _last(cause, log)
    if lines:
        say.line("  the last lines of its log:")
        for text in lines:
            say.line(f"    | {text}")
    if log:
        say.line(f"  the whole log: {log}")
    say.line(f"  next: {next_step(view)}")


def _log(view: RunView, cause: Cause) -> str:
    if cause.log:
        return cause.log
    if cause.rank is None or not cause.host:
        return ""
    return RunFolder(Path(view.path)).host(cause.host).log(cause.generation, cause.rank)


def _last(cause: Cause, log: str) -> list[str]:
    """The last lines of the culprit's log, without TensorFlow's start-up unless there is nothing else."""
    lines = [neutral(text) for text in cause.lines or (last_lines(log, _LOOK_BACK) if log else ())]
    said = [text for text in lines if text.strip() and not is_noise(text)]
    return (said or lines)[-LAST_LINES:]
