"""The Python of the workers and what is installed for it, without importing any of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any, Dict, Mapping

from . import packages
from .places import absolute

_DEADLINE_S = 25.0


def python(said: str, environment: Mapping[str, str]) -> Dict[str, Any]:
    """{path, version, packages, …}; `missing` says why there is none.

    `said` is a path or a name on the environment's PATH. Links stay: a virtual environment is known by its link.
    """
    path = _find(said, environment)
    if path is None:
        return {"path": "", "missing": f"{said} is not an executable file"}
    # -E and -I would hide PYTHONPATH, and with it packages that workers will see.
    argv = [path, "-W", "ignore", os.path.abspath(packages.__file__)]
    try:
        ended = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            timeout=_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"path": path, "missing": f"{path} did not answer within {_DEADLINE_S:g} s"}
    except OSError as error:
        return {"path": path, "missing": f"{path} cannot be started: {error.strerror}"}
    # A sitecustomize of somebody's may print what it likes before.
    for line in ended.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(packages.MARK):
            return {**json.loads(line[len(packages.MARK) :]), "path": path}
    said_last = (ended.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
    return {"path": path, "missing": f"{path} is no Python that works: {said_last[:300]}"}


def _find(said: str, environment: Mapping[str, str]) -> "str | None":
    if os.sep in said or said.startswith("~"):
        return shutil.which(absolute(said))
    found = shutil.which(said, path=environment.get("PATH", os.defpath))
    return os.path.abspath(found) if found else None
