"""A private folder for what ssh needs of us, and a guard that outlives this process and clears up after it."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from launcher.errors import NotFitError
from launcher.hosts.openssh_ask import write_program

_LONGEST = 107 - len(".0123456789abcdef") - len("/123456.ask")  # what a socket's path may have, less ssh's and our ends

# Ends the masters when the process that started them is gone, since ssh itself would stay. Reads `+ pid` and `- pid`.
_GUARD = """\
trap '' HUP INT TERM
pids=
while read -r what pid; do
  others=
  for one in $pids; do [ "$one" = "$pid" ] || others="$others $one"; done
  pids=$others
  [ "$what" = - ] || pids="$pids $pid"
done
[ -z "$pids" ] || kill $pids 2>/dev/null
rm -rf -- "$1"
"""

# Given the pinned fingerprint, and of the key that a host shows its fingerprint, host, type and key: what known_hosts
# would say of that host if it had just the pinned key.
_PIN = '[ "$1" != "$2" ] || printf "%s %s %s\\n" "$3" "$4" "$5"\n'


class Den:
    """A private folder for sockets, and the guard that clears up after us. One for each process."""

    _lock = threading.Lock()
    _made: Den | None = None

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="launcher-", dir=_place()))
        self.asks = write_program(self.folder)
        self.pin = self.folder / "pin"
        self.pin.write_text(_PIN)
        self._numbers = itertools.count()
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )

    @classmethod
    def get(cls) -> Den:
        """That of this process: a fork has none yet."""
        with cls._lock:
            if cls._made is None or cls._made.owner != os.getpid():
                cls._made = Den()
            return cls._made

    def socket(self) -> str:
        """A path that no socket has had yet."""
        return str(self.folder / str(next(self._numbers)))

    def guard(self, process: subprocess.Popen[bytes]) -> None:
        """From now on the process ends with this one."""
        self._tell("+", process)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """May be called twice."""
        # As long as it has not been waited for, its number is nobody else's.
        self._tell("-", process)
        process.terminate()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _tell(self, what: str, process: subprocess.Popen[bytes]) -> None:
        assert self._guard.stdin is not None
        with contextlib.suppress(OSError):
            self._guard.stdin.write(f"{what} {process.pid}\n".encode())


def _place() -> str | None:
    """Where a folder's path is short enough for a socket, and programs may be run."""
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp", "/var/tmp"):
        with contextlib.suppress(OSError):
            if not folder or len(folder) + len("/launcher-12345678") > _LONGEST:
                continue
            if os.access(folder, os.W_OK | os.X_OK) and not os.statvfs(folder).f_flag & os.ST_NOEXEC:
                return folder
    raise NotFitError("there is no folder for the sockets of ssh", hint="set TMPDIR to a short path that is yours")
