"""The command line: registers the verbs, and turns errors into text and exit codes. Nothing heavy is imported here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from launcher.errors import LauncherError, SpecError
from worker.contract.states import ExitCode

app = typer.Typer(
    name="launcher",
    help="Multi-worker TensorFlow training on machines you already have.\n\nExample:  launcher up cluster.yaml",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # plain help: rich would cost a third of the time that --help may take
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register() -> None:
    """Add every verb, in the order in which help shows them. What is heavy they import inside their functions."""
    from launcher.cli.attach import attach
    from launcher.cli.check import check
    from launcher.cli.clean import clean
    from launcher.cli.down import down
    from launcher.cli.drain import drain
    from launcher.cli.fetch import fetch
    from launcher.cli.init import init
    from launcher.cli.list_ import list_runs
    from launcher.cli.logs import logs
    from launcher.cli.plan import plan
    from launcher.cli.ps import ps
    from launcher.cli.report import report
    from launcher.cli.resume import resume
    from launcher.cli.schema import schema
    from launcher.cli.status import status
    from launcher.cli.tensorboard import tensorboard
    from launcher.cli.up import up

    # What `launcher --help` says of each: a line, not the beginning of one.
    verbs: dict[str, tuple[Callable[..., object], str]] = {
        "init": (init, "write a commented cluster.yaml to start from"),
        "schema": (schema, "print the JSON Schema of cluster.yaml, for editors"),
        "check": (check, "look at every host: what would stop a run there?"),
        "plan": (plan, "show what each rank would do; starts nothing"),
        "up": (up, "start the cluster, and show it until it ends"),
        "resume": (resume, "go on from the newest whole checkpoint"),
        "attach": (attach, "show a run until it ends"),
        "list": (list_runs, "all runs, newest first"),
        "status": (status, "how a run stands, worker by worker"),
        "logs": (logs, "what the workers printed; -f follows"),
        "down": (down, "stop a run: a checkpoint, then the end"),
        "drain": (drain, "let a run go on without some of its hosts"),
        "fetch": (fetch, "bring home all that a run has left on its hosts"),
        "report": (report, "epochs, result, curves, where the model is"),
        "tensorboard": (tensorboard, "show a run's event files in TensorBoard"),
        "ps": (ps, "what runs have alive, here and on a spec's hosts"),
        "clean": (clean, "remove old runs and staged code; asks first"),
    }
    for name, (verb, about) in verbs.items():
        app.command(name, short_help=about)(verb)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. The only place where an error becomes one."""
    register()
    try:
        result = app(args=list(arguments), standalone_mode=False)
    except LauncherError as error:
        show(error)
        return int(error.exit_code)
    except typer.Abort:
        return int(ExitCode.INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line itself is wrong: typer's own words
            typer.echo(f"launcher: {error.format_message()}\nTry: launcher --help", err=True)
            return int(ExitCode.BAD_SPEC)
        raise
    return int(result) if isinstance(result, int) else 0


def show(error: LauncherError) -> None:
    """An error on standard error: what is wrong, where, and the next step."""
    out = sys.stderr
    if isinstance(error, SpecError):
        for problem in error.problems:
            print(f"{problem.where}: {problem.path}: {problem.message}", file=out)
            if problem.expected:
                print(f"    expected: {problem.expected}", file=out)
            if problem.found:
                print(f"    found:    {problem.found}", file=out)
            if problem.hint:
                print(f"    hint:     {problem.hint}", file=out)
    print(f"launcher: {error.message}", file=out)
    if error.hint:
        print(f"  next: {error.hint}", file=out)
