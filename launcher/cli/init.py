"""`launcher init`: a commented cluster.yaml to start from."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from launcher.errors import UsageError


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.", show_default=True)] = Path("cluster.yaml"),
    program: Annotated[bool, typer.Option("--program", help="For your own program instead of the trainer.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
) -> None:
    """Write a commented cluster.yaml to start from.

    It trains the built-in CNN with two workers on this machine, on images that come with the launcher. The other keys
    stand in it as comments, with what they do.

    \b
    Example:  launcher init
              launcher up cluster.yaml
    Example:  launcher init --program jobs/mine.yaml
    """
    source = Path(__file__).with_name("starter-program.yaml" if program else "starter.yaml")
    text = source.read_text(encoding="utf-8").replace(" cluster.yaml", f" {_quoted(path)}")
    try:
        _write(path, text, force)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already", hint="give another name, or --force to replace it: launcher init FILE"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path} cannot be written: {reason}", hint="name a file in a folder of yours") from None
    verb = "plan" if program else "up"
    typer.echo(f"{path} is written. Next:  launcher {verb} {_quoted(path)}")


def _quoted(path: Path) -> str:
    """The path as it can be pasted in a shell, on one line."""
    return shlex.quote(str(path)) if str(path).isprintable() else "cluster.yaml"


def _write(path: Path, text: str, force: bool) -> None:
    """Writes the file whole, or not at all. Raises FileExistsError unless forced."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".init-", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(file.fileno(), 0o666 & ~mask)
            if force:
                Path(file.name).replace(path)
            else:
                os.link(file.name, path)  # unlike rename, it fails where a file is
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(file.name).unlink()
