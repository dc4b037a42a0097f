"""cluster.yaml → ClusterSpec: one schema, every problem at once, each with its file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.spec.model import ClusterSpec


def load(
    path: Path,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    base: Path | None = None,
) -> ClusterSpec:
    """Read, check and normalise a cluster.yaml. Nothing is changed on disk, and no connection is opened.

    `overrides` are the texts of `--set KEY=VALUE`, applied in order. `environ` (default: this process's) gives HOME and
    LAUNCHER_RUNS. `base` is the folder that relative paths start from; default: the file's own (another one makes a
    copied cluster.yaml mean what the original meant). Raises SpecError with every problem found.
    """
    from launcher.spec.loader import load as load_file  # pydantic and yaml cost 0.1 s: only who loads pays

    return load_file(path, overrides, environ, base)
