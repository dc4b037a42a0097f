"""`launcher logs`: what the workers printed, all of it or as it comes."""

from __future__ import annotations

from typing import Annotated

import typer


def logs(
    run: Annotated[
        str | None, typer.Argument(help="A run's name, a prefix of it, or its path.", metavar="[RUN]")
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", metavar="N", help="This worker's lines only.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run has ended.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show TensorFlow's start-up messages too.")] = False,
) -> int:
    """Print what the workers of a run printed, each line with its rank and host. The newest run by default.

    With -f, go on through restarts until the run has ended; Ctrl-C leaves the view and touches nothing else.

    Example:  launcher logs fashion --rank 0 -f
    """
    import os
    import sys

    from launcher.runs.listing import find, known_folders
    from launcher.runs.read import read_run
    from launcher.view.follow import Follower
    from launcher.view.lines import print_lines
    from launcher.view.plain import PlainScreen

    folder = find(run, known_folders(os.environ), for_reading=True)
    view = read_run(folder)
    _check(rank, {known for generation in view.generations for known, _ in generation.ranks})
    screen = PlainScreen(sys.stdout, notes=False, colour=sys.stdout.isatty())
    try:
        if follow:
            Follower(folder, screen, verbose=verbose, rank=rank, past_coordinator=True).run()
        else:
            print_lines(folder, view, screen.lines, rank=rank, verbose=verbose)
        screen.close()
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read has enough; the interpreter must not try to flush the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _check(rank: int | None, known: set[int]) -> None:
    from launcher.errors import UsageError

    if rank is not None and known and rank not in known:
        raise UsageError(f"the run has no rank {rank}", hint=f"its ranks are 0 to {max(known)}")
