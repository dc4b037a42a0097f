"""Bugs planted on purpose, each a patch in `bugs/`: a copy of the code has one, and the simulation must find it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).parent / "bugs"
SEED = 1
MOST_S = 90.0  # of a machine that has other work; most are found within seconds


@dataclass(frozen=True)
class Verdict:
    """Whether a history broke a rule, and the last lines that the simulation wrote."""

    found: bool
    told: str


def plant(patch: Path, folder: Path) -> None:
    """A copy of what the simulation needs, with the bug in it. Raises ValueError if the patch does not fit any more."""
    skip = shutil.ignore_patterns("__pycache__", "data", "*.npz")
    for part in ("launcher", "worker", "tests/sim"):
        shutil.copytree(ROOT / part, folder / part, ignore=skip)
    (folder / "tests/unit").mkdir()
    for file in ("tests/__init__.py", "tests/unit/__init__.py", "tests/unit/machine_driver.py"):
        shutil.copy(ROOT / file, folder / file)
    done = subprocess.run(["git", "apply", str(patch)], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(
            f"{patch.name} does not apply any more: the lines that it breaks have changed. Write the bug into them and "
            f"renew the patch with `git diff`.\n{done.stderr}"
        )


def hunt(folder: Path) -> Verdict:
    """Simulate in a folder with a planted bug until it is found, or time is over."""
    command = [sys.executable, "-m", "tests.sim", "--seed", str(SEED), "--years", "50", "--seconds", str(MOST_S)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3 * MOST_S, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return Verdict(done.returncode == 1 and "again: python -m tests.sim --one" in done.stdout, "\n".join(lines[-4:]))
