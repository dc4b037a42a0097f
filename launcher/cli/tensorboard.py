"""`launcher tensorboard`: TensorBoard on what a run's programs have written, as it comes home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from launcher.runs.folder import RunFolder


def tensorboard(
    run: Annotated[
        str | None, typer.Argument(help="A run's name, a prefix of it, or its path.", metavar="[RUN]")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Where it listens, on this machine only.", min=0)] = 6006,
) -> None:
    """Show the event files of a run in TensorBoard, on http://localhost:6006. The newest run by default.

    What programs write below LAUNCHER_OUTPUT_DIR comes home while they run, and TensorBoard shows it as it grows.
    Ctrl-C ends TensorBoard and touches nothing else.

    Example:  launcher tensorboard fashion --port 6007
    """
    import os

    from launcher.runs.listing import find, known_folders

    folder = find(run, known_folders(os.environ), for_reading=True)
    argv = _program()
    hosts = folder.path / "hosts"
    if not any(hosts.rglob("*.tfevents.*")):
        _none_yet(folder)
    argv += ["--logdir", str(hosts), "--port", str(port), "--host", "localhost"]
    os.execv(argv[0], argv)


def _program() -> list[str]:
    import shutil
    import sys
    from importlib.util import find_spec

    from launcher.errors import UsageError

    if find_spec("tensorboard") is not None:
        return [sys.executable, "-m", "tensorboard.main"]
    found = shutil.which("tensorboard")
    if found is None:
        python = Path(sys.executable).name
        raise UsageError("TensorBoard is not installed here", hint=f"{python} -m pip install tensorboard")
    return [found]


def _none_yet(folder: RunFolder) -> None:
    """Say so, and go on if some may still come. Raises RunError if none will."""
    from launcher.errors import RunError
    from launcher.runs.read import read_run

    view = read_run(folder)
    if view.ended:
        raise RunError(
            f"{folder.name} has no event files: its programs wrote none below LAUNCHER_OUTPUT_DIR",
            hint="let the program write them there, as keras.callbacks.TensorBoard(os.environ['LAUNCHER_OUTPUT_DIR']); "
            f"if its hosts were lost, `launcher fetch {folder.name}` brings what they have",
        )
    typer.echo("no event files are here yet: TensorBoard shows them when they come", err=True)
