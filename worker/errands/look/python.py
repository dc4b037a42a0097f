"""The Python of the workers and what is installed for it, without importing any of it."""

from __future__ import annotations

import binascii
import json
import os
from typing import Any, Dict, List, Mapping, Optional

from ...contract.machine.paths import which
from . import packages
from .places import absolute, fresh

_DEADLINE_S = 25.0
# What decides where a Python finds its packages.
_DECIDES = ("PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "HOME", "VIRTUAL_ENV")


def python(said: str, environment: Mapping[str, str], cache: str = "") -> Dict[str, Any]:
    """{path, version, packages, …}; `missing` says why there is none.

    `said` is a path or a name on the environment's PATH. Links stay: a virtual environment is known by its link.
    `cache` is a folder that may hold the answer of the last time: it counts as long as the file of the Python and every
    folder in which it looks for packages are as they were.
    """
    path = _find(said, environment)
    if path is None:
        return {"path": "", "missing": f"{said} is not an executable file"}
    named = json.dumps([path, [environment.get(name) for name in _DECIDES]])
    kept = os.path.join(cache, f"python-{binascii.crc32(named.encode()):08x}.json") if cache else ""
    answer = _recall(kept, named, path)
    if answer is None:
        answer = _ask(path, environment)
        if kept and "missing" not in answer:
            _keep(kept, named, path, answer)
    answer.pop("folders", None)
    return answer


def _ask(path: str, environment: Mapping[str, str]) -> Dict[str, Any]:
    import subprocess

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


def _find(said: str, environment: Mapping[str, str]) -> Optional[str]:
    if os.sep in said or said.startswith("~"):
        return which(absolute(said))
    found = which(said, environment.get("PATH", os.defpath))
    return os.path.abspath(found) if found else None


def _recall(kept: str, named: str, path: str) -> Optional[Dict[str, Any]]:
    """The answer that was kept, if nothing has changed since."""
    try:
        with open(kept, encoding="utf-8") as file:
            value = json.load(file)
        answer = value["answer"]
        same = value["named"] == named and value["marks"] == _marks(path, answer["folders"])
        return dict(answer) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(kept: str, named: str, path: str, answer: Mapping[str, Any]) -> None:
    """Best effort: the next one asks again otherwise. The workdir is there already, or it is not ours to make."""
    try:
        text = json.dumps({"named": named, "marks": _marks(path, answer["folders"]), "answer": dict(answer)})
        folder = os.path.dirname(kept)
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
        handle, temporary = fresh(folder, ".")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, kept)
    except (OSError, KeyError, TypeError, ValueError):
        pass


def _marks(path: str, folders: List[str]) -> List[Any]:
    """What changes when a Python is replaced, or a package comes or goes: installers make and remove folders there."""
    marks: List[Any] = []
    for place in [os.path.realpath(path), *(str(folder) for folder in folders)]:
        try:
            found = os.stat(place)
            marks.append([place, found.st_mtime_ns, found.st_ino])
        except OSError:
            marks.append([place, None, None])
    return marks
