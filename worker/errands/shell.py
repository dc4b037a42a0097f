"""A piece of shell of the user's, run as a login would run it, with its output passed on and its end certain.

It is run by `bash -l`, or by `sh -l` where there is no bash, from a file of ours: what stands in a command line can be
read by every user of the machine.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from typing import Callable, Dict, List, Optional, Tuple

from ..agent import processes
from ..contract import wire
from .room import GoneError, TroubleError, troubling
from .talk import Talk

WORD_EVERY_S = 2.0
ACTIVATE_S = 180.0
MOST_ENVIRONMENT = 1 << 19
_PIECE = 1 << 16
_RUN = 'cd "$2" && . "$1"'  # a login file may have gone elsewhere
_CAPTURE = '. "$1" || exit; exec cat /proc/self/environ > "$2"'
# What every shell sets for itself, or what is no plain variable: exported functions have names that no program reads.
_NOISE = frozenset({b"_", b"SHLVL", b"PWD", b"OLDPWD", b"PS1", b"PS2", b"BASH_ENV", b"ENV"})


def run(
    talk: Talk, text: str, folder: str, cwd: str, umask: int, told: Callable[[bytes], None], limit_s: float = 0.0
) -> int:
    """Run a piece of shell to its end; its exit status, negative for a signal. `told` gets what it prints.

    `folder` is where its script may lie meanwhile. It and all of its process group are ended when the client is gone
    (raises GoneError) and, with a limit, when it has taken that long (raises TroubleError).
    """
    script = _write_script(folder, text)
    try:
        return _run(talk, [_RUN, "shell", script, cwd], cwd, umask, told, limit_s)
    finally:
        os.unlink(script)


def capture(talk: Talk, line: str, folder: str, umask: int) -> Tuple[Dict[str, str], List[str]]:
    """(What a line of shell changes in the environment, what it takes away), compared to this process's own.

    What the login files of the shell set is part of it. Raises TroubleError with what was printed if the line fails.
    """
    script, caught = _write_script(folder, line), os.path.join(folder, f".environ.{os.urandom(6).hex()}")
    printed = Tail()
    try:
        status = _run(talk, [_CAPTURE, "shell", script, caught], _home(), umask, printed.add, ACTIVATE_S)
        if status != 0 or not os.path.exists(caught):
            raise TroubleError("activate", status=status, tail=printed.text())
        with open(caught, "rb") as file:
            data = file.read(MOST_ENVIRONMENT + 1)
    finally:
        for path in (script, caught):
            with contextlib.suppress(OSError):
                os.unlink(path)
    if len(data) > MOST_ENVIRONMENT:
        raise TroubleError("activate", status=0, tail="the environment is larger than 512 KiB")
    parts = (part.partition(b"=") for part in data.split(b"\0"))
    return difference(dict(os.environb), {name: value for name, sign, value in parts if sign})


def _home() -> str:
    home = os.path.expanduser("~")
    return home if os.path.isdir(home) else "/"


def difference(before: Dict[bytes, bytes], after: Dict[bytes, bytes]) -> Tuple[Dict[str, str], List[str]]:
    """(Variables that are new or other, names that are gone). Shells' own and functions are left out."""
    changed = {k: v for k, v in after.items() if before.get(k) != v and _is_plain(k)}
    gone = [k for k in before if k not in after and _is_plain(k)]
    return {os.fsdecode(k): os.fsdecode(v) for k, v in sorted(changed.items())}, sorted(map(os.fsdecode, gone))


def _is_plain(name: bytes) -> bool:
    return name not in _NOISE and not name.startswith(b"LAUNCHER_") and name.decode("latin-1").isidentifier()


class Tail:
    """The end of what was printed."""

    def __init__(self, most: int = 4000) -> None:
        self._data = b""
        self._most = most

    def add(self, data: bytes) -> None:
        self._data = (self._data + data)[-self._most :]

    def text(self) -> str:
        return self._data.decode("utf-8", "replace")


def _write_script(folder: str, text: str) -> str:
    path = os.path.join(folder, f".script.{os.urandom(6).hex()}")
    with troubling(path), open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape") + b"\n")
    return path


def _run(talk: Talk, words: List[str], cwd: str, umask: int, told: Callable[[bytes], None], limit_s: float) -> int:
    shell = shutil.which("bash") or "/bin/sh"

    def in_child() -> None:
        os.umask(umask)
        processes.prctl(processes.PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        process = subprocess.Popen(
            [shell, "-lc", *words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_child,
        )
    except OSError as error:
        raise TroubleError("shell", path=shell, why=error.strerror or str(error)) from error
    assert process.stdout is not None
    try:
        return _minded(talk, process, process.stdout.fileno(), told, limit_s)
    finally:
        _end(process)
        process.stdout.close()


def _minded(
    talk: Talk, process: "subprocess.Popen[bytes]", output: int, told: Callable[[bytes], None], limit_s: float
) -> int:
    os.set_blocking(output, False)
    deadline = time.monotonic() + limit_s if limit_s else float("inf")
    spoken = time.monotonic()
    linger = float("inf")  # what it left running may hold its output open, and even print
    watched = [output, talk.input_fileno()]
    while True:
        ready = select.select(watched, [], [], 0.1)[0]
        if talk.input_fileno() in ready:
            _hang_up(talk)
        if process.poll() is not None:
            linger = min(linger, time.monotonic() + 1.0)
        data = _read(output) if output in ready or linger < float("inf") else None
        if data:
            told(data)
            spoken = time.monotonic()
        elif linger < float("inf"):
            break
        elif data is not None:
            watched.remove(output)
        now = time.monotonic()
        if now > linger:
            break
        if now > deadline:
            raise TroubleError("slow", limit_s=limit_s)
        if now > spoken + WORD_EVERY_S:
            talk.send({"type": "waiting", "what": ""})
            spoken = now
    return process.returncode


def _hang_up(talk: Talk) -> None:
    """The client waits for the answer, so that its input can only end."""
    if os.read(talk.input_fileno(), _PIECE):
        raise wire.WireError("a client that does not wait for an answer")
    raise GoneError


def _read(output: int) -> Optional[bytes]:
    try:
        return os.read(output, _PIECE)
    except BlockingIOError:
        return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """A shell that still runs is ended with all of its group; what it left running by itself is not."""
    if process.poll() is not None:
        return
    for number, patience_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return
