"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

SpecFile = Annotated[Path, typer.Argument(help="The cluster's file.", show_default=True)]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads the annotation at run time
    typer.Option("--set", metavar="KEY=VALUE", help="Override any key, as in --set train.epochs=2. May be repeated."),
]
RunName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(help="A run's name, the beginning of it, or its folder.", metavar="[RUN]"),
]
Plain = Annotated[bool, typer.Option("--plain", help="Prefixed lines instead of the live screen.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="TensorFlow's start-up lines too.")]
DEFAULT_SPEC = Path("cluster.yaml")
