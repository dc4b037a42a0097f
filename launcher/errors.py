"""One family of errors. Each says what was expected, what was found, where, and what to do next.

`launcher.cli` is the only place that turns one into text on the screen and an exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.contract.states import ExitCode


class LauncherError(Exception):
    """Anything that a user can be told. `hint` is the next step, in the imperative."""

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file: `where` is `cluster.yaml:12`, or `--set train.epochs` without a file."""

    where: str
    path: str
    message: str
    expected: str = ""
    found: str = ""
    hint: str = ""


class SpecError(LauncherError):
    """A cluster.yaml that cannot be used: every problem of it at once."""

    exit_code = ExitCode.BAD_SPEC

    def __init__(self, problems: Sequence[Problem], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the spec", hint=hint)


class UsageError(LauncherError):
    """The command line asks for something that makes no sense (no such run, two runs match, …)."""

    exit_code = ExitCode.BAD_SPEC


class NotFitError(LauncherError):
    """A host cannot do what the plan asks of it: not reachable, no TensorFlow, no free port, data missing."""

    exit_code = ExitCode.NOT_FIT


class RunError(LauncherError):
    """A run folder or its coordinator is not in the state that the call needs."""

    exit_code = ExitCode.FAILED
