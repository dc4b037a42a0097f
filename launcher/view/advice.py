"""What a person can do next about a run that has ended, in a line."""

from __future__ import annotations

import shlex

from launcher.runs.model import RunView
from worker.contract.states import RUN_ENDED, RUN_RESUMABLE, RunState

ENDED_EARLY = RUN_ENDED - {RunState.TRAINED}


def next_step(view: RunView) -> str:
    """The hint of the cause and the command that goes on, if there are any; else the command that shows more."""
    hint = view.cause.hint if view.cause else ""
    newest = view.newest_checkpoint
    resume = ""
    if view.state in RUN_RESUMABLE and newest is not None:
        resume = f"launcher resume {shlex.quote(view.run)} goes on from {newest.name}"
    return "; then ".join(text for text in (hint, resume) if text) or f"launcher logs {shlex.quote(view.run)} shows all"
