"""A host whose clock is wrong. Namespaces share the clock of the machine, so it is the host's Python that errs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.lab.hosts import SshHost

_FOLDER = "wrong-clock"
# `encodings` is the first module that every start of Python reads from a file, `-I -S` or not.
_ERRS = """\
import time as _time
def _wrong(right, unit):
    return lambda: right() + unit * {seconds}
_time.time, _time.time_ns = _wrong(_time.time, 1), _wrong(_time.time_ns, 10**9)
"""


def set_wrong(host: SshHost, ahead_s: int) -> None:
    """Whatever is started as `python3` over SSH sees a time of day that is `ahead_s` ahead (behind, if negative).

    What that starts in turn does, too, if it starts its own interpreter. The login shell must be bash.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    right, wrong = Path(sys.base_prefix), host.home / _FOLDER
    (wrong / "bin").mkdir(parents=True)
    # A copy: through a link Python would find its own library again.
    shutil.copy(Path(sys.executable).resolve(), wrong / "bin" / "python3")
    library = wrong / "lib" / version
    library.mkdir(parents=True)
    _link(right / "lib", wrong / "lib", without=version)
    _link(right / "lib" / version, library, without="encodings")
    encodings = library / "encodings"
    encodings.mkdir()
    _link(right / "lib" / version / "encodings", encodings, without="__init__.py")
    text = (right / "lib" / version / "encodings" / "__init__.py").read_text()
    (encodings / "__init__.py").write_text(text + _ERRS.format(seconds=ahead_s))
    (encodings / "__pycache__").unlink(missing_ok=True)
    (host.home / ".bashrc").write_text(f'export PATH="$HOME/{_FOLDER}/bin:$PATH"\n')


def _link(right: Path, wrong: Path, *, without: str) -> None:
    for entry in os.scandir(right):
        if entry.name != without:
            (wrong / entry.name).symlink_to(entry.path)
