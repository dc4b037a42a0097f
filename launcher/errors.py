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
    hosts: frozenset[str] = frozenset()  # those that it is about, where several were asked


class ApartError(NotFitError):
    """Not all hosts reach each other; `hosts` are the fewest without which the others do."""


_MOST_TOLD = 8


def of_hosts(errors: Sequence[tuple[str, LauncherError]], what: str) -> NotFitError | None:
    """The errors of several hosts as one, those that say the same told once; `what` is all that failed, in a few words.

    None if there are none.
    """
    if not errors:
        return None
    error = _as_one(errors, what)
    error.hosts = frozenset(host for host, _ in errors)
    return error


def _as_one(errors: Sequence[tuple[str, LauncherError]], what: str) -> NotFitError:
    if len(errors) == 1:
        return NotFitError(errors[0][1].message, hint=errors[0][1].hint)
    told: dict[tuple[str, str], list[str]] = {}
    for host, error in errors:
        told.setdefault((without_host(error.message, host), error.hint), []).append(host)
    lines = []
    for (message, hint), hosts in list(told.items())[:_MOST_TOLD]:
        lines.append(f"  {some(hosts)}: {message}".replace("\n", "\n  "))
        lines += [f"    next: {hint}"] if hint else []
    left = [host for hosts in list(told.values())[_MOST_TOLD:] for host in hosts]
    lines += [f"  and {some(left)}"] if left else []
    return NotFitError(f"{what} {len(errors)} hosts:\n" + "\n".join(lines))


def without_host(message: str, host: str) -> str:
    """An error's message for a line that names the host anyway."""
    return message.removeprefix("host ").removeprefix(f"{host}: ")


def some(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c, d and 12 more`."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


class RunError(LauncherError):
    """A run folder or its coordinator is not in the state that the call needs."""

    exit_code = ExitCode.FAILED
