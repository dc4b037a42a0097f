"""The files that say which keys hosts have: ssh's known_hosts, read and added to."""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.hosts.ssh_options import matches

_adding = threading.Lock()


@dataclass(frozen=True)
class HostKey:
    """A host's public key."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """As it stands in files: type and base64."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"


@dataclass(frozen=True)
class Entry:
    """A line of a file: the names that it speaks of, and the key. `marker`: none, `@revoked` or `@cert-authority`."""

    where: str
    marker: str
    names: str
    key: HostKey

    @property
    def hashed(self) -> bool:
        return self.names.startswith("|1|")

    def speaks_of(self, name: str) -> bool:
        if self.hashed:
            with contextlib.suppress(binascii.Error):
                return _hashed(name, self.names.split("|")[2]) == self.names
            return False
        return matches(self.names.lower().split(","), name)


def read(files: Iterable[str]) -> list[Entry]:
    """All lines that make sense, in order; as with ssh, what is not there or broken says nothing."""
    return [entry for file in files for entry in _entries(file)]


def _entries(file: str) -> Iterator[Entry]:
    try:
        text = Path(file).read_bytes().decode("utf-8", "replace")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if len(words) < 3 or marker not in {"", "@revoked", "@cert-authority"}:
            continue
        with contextlib.suppress(binascii.Error, ValueError, IndexError):
            entry = Entry(f"{file}:{number}", marker, words[0], HostKey(words[1], base64.b64decode(words[2])))
            if not entry.hashed or len(entry.names.split("|")) == 4:
                yield entry


def add(file: str, name: str, key: HostKey, *, hashed: bool) -> None:
    """Append a line in one piece. If it, or another line for `name`, came there meanwhile, nothing is done.

    Names are hashed if `hashed` says so or if those of the file are. Raises OSError.
    """
    path = Path(file)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with _adding:
            with contextlib.suppress(OSError):  # not every file system can
                fcntl.flock(handle, fcntl.LOCK_EX)
            entries = list(_entries(file))
            if any(entry.marker == "" and entry.speaks_of(name) for entry in entries):
                return
            shown = _hashed(name) if hashed or any(entry.hashed for entry in entries) else name
            line = f"{shown} {key.line}\n".encode()
            os.write(handle, line if _ends_with_a_newline(handle) else b"\n" + line)
    finally:
        os.close(handle)


def _ends_with_a_newline(handle: int) -> bool:
    try:
        size = os.fstat(handle).st_size
        return size == 0 or os.pread(handle, 1, size - 1) == b"\n"
    except OSError:  # a device
        return True


def _hashed(name: str, salt: str | None = None) -> str:
    """A name as ssh's HashKnownHosts writes it."""
    raw = base64.b64decode(salt) if salt is not None else os.urandom(20)
    digest = hmac.new(raw, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(raw).decode()}|{base64.b64encode(digest).decode()}"
