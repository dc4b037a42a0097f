"""Secrets of a run over SSH are found nowhere: in no file of either side, and in no command line while it lives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.far import far_in
from tests.integration.harness import wait_for
from tests.integration.there import nothing_alive
from tests.integration.transports import REMOTE, Transport
from tests.lab.hosts import why_no_sshd

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())

SECRET = "a-secret-that-is-nowhere-8d1f"
PASSPHRASE = "open sesame 4711 8d1f"
PROGRAM = """\
import os, time
print(len(os.environ["TOKEN"]), flush=True)
open(os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], "result"), "w").write("done")
time.sleep(1)
"""


class Watch:
    """Reads the command line of every process over and over, and its environment for the passphrase."""

    def __init__(self) -> None:
        self.looks = 0
        self.found: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            for process in Path("/proc").glob("[0-9]*"):
                for name, secrets in (("cmdline", (SECRET, PASSPHRASE)), ("environ", (PASSPHRASE,))):
                    with contextlib.suppress(OSError):
                        data = (process / name).read_bytes()
                        self.found |= {f"{secret} in {name}: {data!r}" for secret in secrets if secret.encode() in data}
            self.looks += 1


def files_with(folder: Path, *secrets: str) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += [f"{secret} in {path}" for secret in secrets if secret.encode() in data]
    return found


@pytest.mark.parametrize("transport", REMOTE)
def test_a_secret_and_a_passphrase_are_found_nowhere(transport: Transport, tmp_path: Path) -> None:
    with far_in(tmp_path, passphrase=PASSPHRASE) as far:
        each = f"transport: {transport}, setup: [env | sort > seen], activate: export MADE=yes"
        spec = far.program(PROGRAM, "secrets: [TOKEN]\n", each=each)
        far.launcher.env["TOKEN"] = SECRET
        watch = Watch()
        with watch.watching():
            terminal = far.launcher.terminal("up", str(spec))
            wait_for(lambda: "passphrase" in terminal.read(), "the question")
            terminal.press(PASSPHRASE.encode() + b"\n")
            assert terminal.wait(60) == 0, terminal.read()
            nothing_alive(far)
        run = far.launcher.newest()
        assert (run / "hosts" / "h2" / "g1" / "rank1.log").read_text() == f"{len(SECRET)}\n"
        assert watch.looks > 20
        assert watch.found == set()
        # Both sides: home with its runs and state, every host's home, and what sshd has logged.
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) > 50
        assert files_with(tmp_path, SECRET, PASSPHRASE) == []
        assert terminal.read().count(PASSPHRASE) == 0
