"""Programs by their names. `shutil` does the same, and takes longer to import than all else that is asked of a host."""

from __future__ import annotations

import os
from typing import Optional


def which(name: str, path: Optional[str] = None) -> Optional[str]:
    """The executable file that a shell would start for `name`: itself if it has a slash, else the first on PATH."""
    if os.sep in name:
        return name if _executable(name) else None
    places = (os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep)
    return next((found for place in places if _executable(found := os.path.join(place, name))), None)


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
