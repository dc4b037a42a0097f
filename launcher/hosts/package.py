"""Our `worker` package as it travels to hosts: one value, made once, for all of them."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from launcher.errors import NotFitError

KNOCK, DOOR = "knock.py", "door.py"
_making = threading.Lock()


@dataclass(frozen=True)
class Package:
    """`digest` names it, `knock` is what is sent to be let in, `door` and `packed` to a host that lacks it."""

    digest: str
    knock: bytes
    door: bytes
    content: bytes = field(repr=False)

    @property
    def packed(self) -> bytes:
        """Deflated when it is first needed, since most hosts have it, and once for all."""
        with _making:
            return _deflated(self.content)


@functools.lru_cache(maxsize=2)
def _deflated(content: bytes) -> bytes:
    return zlib.compress(content, 9)


def installed() -> Package:
    """As `_installed`, made once however many threads ask."""
    with _making:
        return _installed()


@functools.lru_cache(maxsize=1)
def _installed() -> Package:
    """The package as it is installed here, read once in this process.

    The embedded data set stays behind: it is ten times the size of all else, and is brought as data where it is needed.
    Raises NotFitError if it cannot be read.
    """
    import worker

    root = Path(worker.__file__).parent.absolute()
    try:
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in _files(root)}
    except OSError as error:
        raise NotFitError(
            f"our own package {root} cannot be read: {error.strerror or error}", hint="install the launcher again"
        ) from error
    data = packed_bytes(files)
    return Package(hashlib.sha256(data).hexdigest(), files[KNOCK], files[DOOR], data)


def packed_bytes(files: dict[str, bytes]) -> bytes:
    """The bytes whose hash names a package. The host makes the same of the folder that it has (see worker/knock.py)."""
    parts = []
    for name in sorted(files, key=os.fsencode):
        parts += [os.fsencode(f"{name}\0{len(files[name])}\n"), files[name]]
    return b"".join(parts)


def _files(root: Path) -> list[Path]:
    """Leaves out what editors and Python leave in a working copy, and data."""
    return [
        path
        for path in root.rglob("*")
        if path.is_file()
        and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(root).parts)
        and not path.name.endswith((".pyc", ".npz", "~"))
    ]
