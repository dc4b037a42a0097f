"""A machine of the lab: everything that runs on it, and nothing of it left at the end."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")


class LabError(Exception):
    """The lab itself is broken; never the fault of what is tried in it."""


@dataclass
class Machine:
    """A keeper and whatever was started through it. Ended with the lab, even if the lab's owner is killed."""

    name: str
    folder: Path
    _keeper: subprocess.Popen[str] | None = field(default=None, repr=False, kw_only=True)

    @property
    def log(self) -> Path:
        """What its sshd and its keeper print."""
        return self.folder / "sshd.log"

    @property
    def pid(self) -> int:
        """Of its keeper: the ancestor of all its processes."""
        if self._keeper is None:
            raise LabError(f"{self.name} is closed")
        return self._keeper.pid

    def spawn(self, inside: Sequence[str], sshd_argv: Sequence[str]) -> None:
        """Start the keeper through the command `inside`. It starts nothing yet."""
        # A copy, and the Python behind a virtual environment: a host may have no sight of the folders of this project.
        # -I -S: it needs the standard library alone, and many hosts start at once.
        shutil.copyfile(KEEPER, self.folder / KEEPER.name)
        python = str(Path(sys.executable).resolve())
        argv = [*inside, python, "-I", "-S", str(self.folder / KEEPER.name), *sshd_argv]
        with open(self.log, "ab") as log:
            self._keeper = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd="/",
                start_new_session=True,  # a Ctrl-C is for whoever plays with the lab
                env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"},
            )

    def order(self, order: str) -> None:
        """`start`, `kill` or `crash`; returns once it is so (`start`: once sshd has been started, not yet up)."""
        if self._keeper is None:
            raise LabError(f"{self.name} is closed")
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.write(f"{order}\n")
            self._keeper.stdin.flush()
        if self._keeper.stdout.readline().strip() != order:
            raise LabError(f"the keeper of {self.name} is gone: {self.log.read_text(errors='replace')[-2000:]}")

    def close(self) -> None:
        """The end of the machine and of everything on it. May be called twice."""
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        with contextlib.suppress(OSError):
            keeper.stdin.close()
        try:
            keeper.wait(timeout=15)
        finally:
            keeper.kill()
            keeper.wait()
            keeper.stdout.close()
