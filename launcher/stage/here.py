"""Named data on this machine, for hosts that are it: nothing is brought, all must be there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from launcher.errors import NotFitError
from launcher.spec.model import DataSpec


def data_here(data: Mapping[str, DataSpec]) -> dict[str, str]:
    """Where the named data are. Raises NotFitError for what is not there."""
    found = {name: one.path for name, one in data.items()}
    missing = [f"{name} ({path})" for name, path in found.items() if not Path(path).exists()]
    if missing:
        raise NotFitError(
            f"the data {', '.join(missing)} are not on this machine",
            hint="put them there, or mend their path in `data:`",
        )
    return found
