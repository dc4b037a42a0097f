"""Sessions to this machine that stand for hosts where something is different."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import worker
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Channel

CODE = Path(worker.__file__).parent.absolute()


class Elsewhere(LocalSession):
    """Variables are set in its login shell, as a host's start-up files would."""

    def __init__(self, name: str, **variables: str) -> None:
        super().__init__(name)
        self._exports = "".join(f"export {key}={shlex.quote(value)}; " for key, value in variables.items())

    def run(self, command: str) -> Channel:
        return super().run(self._exports + command)


class OtherClock(LocalSession):
    """Its clock is that many seconds ahead."""

    def __init__(self, name: str, ahead: float) -> None:
        super().__init__(name)
        self._ahead = ahead

    def run(self, command: str) -> Channel:
        verb = command.rsplit(" ", 1)[1]
        program = (
            "import runpy, sys, time\n"
            f"real = time.time\ntime.time = lambda: real() + {self._ahead}\n"
            f"sys.argv = ['x', {verb!r}]\nrunpy.run_path({str(CODE / '__main__.py')!r}, run_name='__main__')\n"
        )
        return super().run(f"exec {shlex.quote(sys.executable)} -I -S -c {shlex.quote(program)}")


class Instead(LocalSession):
    """Whatever is asked of it, this command runs."""

    def __init__(self, name: str, command: str) -> None:
        super().__init__(name)
        self._command = command

    def run(self, command: str) -> Channel:  # noqa: ARG002
        return super().run(self._command)
