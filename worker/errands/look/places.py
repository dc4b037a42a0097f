"""The folder of a host's runs: room, rights, kind of disk."""

from __future__ import annotations

import os
from typing import Any, Dict

_TRIED = 1 << 16


def workdir(said: str) -> Dict[str, Any]:
    """What is known of a working folder, absolute, and whether a file can be written in it. Nothing is left there.

    A folder that does not exist is not made: its nearest ancestor is looked at, since it would be made there.
    """
    path = absolute(said)
    there = path
    while not os.path.lexists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    room = os.statvfs(there)
    return {
        "path": path,
        "exists": there == path,
        "free_bytes": room.f_bavail * room.f_frsize,
        "total_bytes": room.f_blocks * room.f_frsize,
        # Some file systems (btrfs) count no files.
        "free_files": room.f_favail if room.f_files else None,
        "noexec": bool(room.f_flag & os.ST_NOEXEC),
        "kind": _kind(there),
        "refused": _refused(there),
    }


def absolute(said: str) -> str:
    """As a shell on this host would have it, from the home folder."""
    return os.path.normpath(os.path.join(os.path.expanduser("~"), os.path.expanduser(said)))


def fresh(folder: str, prefix: str) -> "tuple[int, str]":
    """(descriptor, path) of a file of our own, as tempfile would make it. Raises OSError."""
    name = os.path.join(folder, prefix + os.urandom(8).hex())
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), name


def _refused(folder: str) -> str:
    """Why no file can be written; empty if one can."""
    try:
        handle, name = fresh(folder, ".launcher-check-")
        try:
            # Quotas and full disks show only when blocks are really asked for.
            os.write(handle, os.urandom(_TRIED))
            os.fsync(handle)
        finally:
            os.close(handle)
            os.unlink(name)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _kind(path: str) -> str:
    """The file system's type, such as ext4 or nfs4."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if before.split()[2] == wanted:
                return after.split()[0]
    return ""
