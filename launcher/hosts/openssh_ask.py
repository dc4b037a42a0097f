"""What ssh wants to know of a person: it asks a small program of ours, which asks here, over a private socket."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

Ask = Callable[[str], "str | None"]

_MOST = 1 << 16
# Asked for by name, and the same tomorrow: unlike a code of a second factor.
_LASTING = re.compile(r"passphrase for|password:", re.IGNORECASE)

# Runs as ssh's child: with `-I -S`, the standard library alone. What it prints is the answer.
_PROGRAM = """\
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(os.environ["LAUNCHER_ASK"])
kind = os.environ.get("SSH_ASKPASS_PROMPT", "")
line.sendall(json.dumps({"prompt": sys.argv[1] if sys.argv[1:] else "", "kind": kind}).encode() + b"\\n")
answer = json.loads(line.makefile("rb").readline() or b"null")
if answer is None:
    sys.exit(1)
sys.stdout.write(answer + "\\n")
"""


class Asker:
    """Puts one question at a time to a person, and keeps passphrases and passwords for the next connection."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answers: dict[str, str | None] = {}

    def answer(self, prompt: str, *, wrong: str | None = None) -> str | None:
        """Blocks. `wrong`: an answer to this prompt that was none. None: the person gives none."""
        with self._lock:
            if prompt in self._answers and (known := self._answers[prompt]) != wrong:
                return known  # another login may have been wrong, too, and have asked for the right one since
            if prompt in self._answers and wrong is None:
                return None  # who has not answered once is not asked for each host
            shown = prompt.rstrip(": ")
            answer = self._ask(shown if wrong is None else f"that was wrong. {shown}")
            if _LASTING.search(prompt):
                self._answers[prompt] = answer
            return answer


def write_program(folder: Path) -> Path:
    """The program for SSH_ASKPASS, in a private folder."""
    code, program = folder / "ask.py", folder / "ask"
    if not program.exists():
        code.write_text(_PROGRAM)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(str(code))} "$1"\n')
        program.chmod(0o700)
    return program


class Desk:
    """Where the program of one login asks. `serve` is called by whoever waits for that login."""

    def __init__(self, asker: Asker, path: str, host: str) -> None:
        self.path = path
        self.waited_s = 0.0  # for a person
        self._host = host
        self._asker = asker
        self._answered: dict[str, str | None] = {}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(4)

    def serve(self, timeout_s: float) -> None:
        """Wait so long for a question, and answer it, however long that takes."""
        self._socket.settimeout(timeout_s)
        with contextlib.suppress(OSError, ValueError):
            line, _ = self._socket.accept()
            with line:
                line.settimeout(5)
                said = json.loads(line.makefile("rb").readline(_MOST))
                before = time.monotonic()
                answer = self._answer(str(said["prompt"]), str(said["kind"]))
                self.waited_s += time.monotonic() - before
                line.sendall(json.dumps(answer).encode() + b"\n")

    @property
    def answered(self) -> bool:
        """Whether somebody was there, and said something."""
        return any(answer is not None for answer in self._answered.values())

    def close(self) -> None:
        self._socket.close()
        Path(self.path).unlink(missing_ok=True)

    def _answer(self, prompt: str, kind: str) -> str | None:
        if kind == "none":  # a notice, as `touch your key`: ssh goes on by itself
            return ""
        if re.search(r"\(yes/no", prompt):  # whether a host key is to be trusted is never asked here
            return None
        # A code or a password says whose it is only if ssh does.
        shown = prompt if self._host in prompt or "passphrase for" in prompt else f"{self._host}: {prompt}"
        answer = self._answered[prompt] = self._asker.answer(shown, wrong=self._answered.get(prompt))
        return answer
