"""Where a run came from, kept in its folder: the spec as it was read, and what was said on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.errors import RunError
from launcher.runs.folder import RunFolder
from launcher.runs.whole import write_whole
from launcher.spec import load
from launcher.spec.model import ClusterSpec


def write_about(spec: ClusterSpec, run: RunFolder, overrides: Sequence[str], launched_at: float) -> None:
    """Keep the spec as it was read, and where it came from, in the run's folder. Raises RunError."""
    about = {
        "run": run.name,
        "spec": spec.path,
        "folder": str(Path(spec.path).parent),
        "overrides": list(overrides),
        "launched_at": launched_at,
        "secrets": list(spec.secrets),
    }
    try:
        if Path(spec.path).resolve() != run.spec.resolve():
            shutil.copyfile(spec.path, run.spec)
            run.spec.chmod(0o600)
        write_whole(run.about, json.dumps(about, indent=2) + "\n")
    except OSError as error:
        raise RunError(
            f"the run's folder {run.path} cannot be written: {error.strerror or error}",
            hint="free some space, or choose another place: --set coordinator.runs=FOLDER",
        ) from error


def read_about(run: RunFolder) -> dict[str, Any]:
    """What `write_about` kept. Raises RunError if it cannot be read."""
    try:
        about = json.loads(run.about.read_text())
        return {
            "overrides": [str(o) for o in about["overrides"]],
            "spec": str(about["spec"]),
            "folder": about["folder"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run.about} cannot be read: {error}", hint="the run cannot be resumed; start a new one with `launcher up`"
        ) from error


def load_again(run: RunFolder, overrides: Sequence[str]) -> ClusterSpec:
    """The run's spec, from the copy in its folder; its paths are still relative to where it came from."""
    return load(run.spec, overrides, base=Path(read_about(run)["folder"]))
