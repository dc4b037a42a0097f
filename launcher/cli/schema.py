"""`launcher schema`: the JSON Schema of a cluster.yaml, for editors."""

from __future__ import annotations

from pathlib import Path

import typer

import launcher.spec


def schema() -> None:
    """Print the JSON Schema of cluster.yaml, with which editors complete and check keys.

    Write it beside your spec and let the spec's first line name it. Editors with a YAML language server (VS Code,
    Neovim, Emacs, …) look there.

    \b
    Example:  launcher schema > cluster.schema.json
              then, as the first line of cluster.yaml:
              # yaml-language-server: $schema=cluster.schema.json
    """
    file = Path(launcher.spec.__file__).with_name("cluster.schema.json")
    typer.echo(file.read_text(encoding="utf-8"), nl=False)
