"""Who else is on this host, and what becomes of processes when we log out."""

from __future__ import annotations

import os
import pwd
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from ...contract.machine.paths import which

_NO_LOGIN = ("nologin", "false", "sync", "halt", "shutdown", "git-shell", "")
_FIRST = 1000  # of people's numbers
_NOBODY = range(61184, 65536)  # services with numbers made up for them, and nobody
_MOST = 20
_DEADLINE_S = 2.0


def users() -> Dict[str, Any]:
    """Other people's accounts with a login shell (those of /etc/passwd), and people whose processes run here."""
    me = os.getuid()
    accounts = sorted(name for name, uid, shell in _accounts() if uid != me and _person(uid) and shell not in _NO_LOGIN)
    active = sorted(name for uid in _running() if uid != me and _person(uid) for name in _names(uid))
    return {
        "accounts": accounts[:_MOST],
        "accounts_count": len(accounts),
        "active": active[:_MOST],
        "active_count": len(active),
    }


def logout() -> Dict[str, Any]:
    """Whether systemd ends a user's processes with the last session, and whether this user is spared from it."""
    name = _name(os.getuid())
    exempt = (_setting("KillExcludeUsers") or "root").split()
    only = (_setting("KillOnlyUsers") or "").split()
    kills = _asked() if os.path.isdir("/run/systemd/system") else False
    if kills is None:
        kills = (_setting("KillUserProcesses") or "no").lower() in ("yes", "true", "on", "1")
    return {
        "kills": kills and name not in exempt and (not only or name in only),
        "lingers": os.path.exists(f"/var/lib/systemd/linger/{name}"),
    }


def _accounts() -> Iterator[Tuple[str, int, str]]:
    with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if len(fields) == 7 and fields[2].isdigit():
                yield fields[0], int(fields[2]), os.path.basename(fields[6])


def _person(uid: int) -> bool:
    return uid >= _FIRST and uid not in _NOBODY


def _running() -> Set[int]:
    found: Set[int] = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                found.add(entry.stat().st_uid)
            except OSError:
                continue
    return found


def _names(uid: int) -> List[str]:
    try:
        return [pwd.getpwuid(uid).pw_name]
    except KeyError:  # a container's, or of somebody who is gone
        return []


def _name(uid: int) -> str:
    return (_names(uid) or [str(uid)])[0]


def _asked() -> Optional[bool]:
    """What logind itself says; None if it cannot be asked."""
    busctl = which("busctl")
    if busctl is None:
        return None
    import subprocess

    manager = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
    try:
        said = subprocess.run(
            [busctl, "--system", "get-property", *manager, "KillUserProcesses"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_DEADLINE_S,
            check=False,
        ).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said[1] == b"true" if len(said) == 2 else None


def _setting(key: str) -> Optional[str]:
    """A setting of logind's files. Distributions write the value they were built with as a comment."""
    value: Optional[str] = None
    files = ["/usr/lib/systemd/logind.conf", "/etc/systemd/logind.conf"]
    for folder in ("/usr/lib/systemd", "/run/systemd", "/etc/systemd"):
        files += _inside(f"{folder}/logind.conf.d")
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    name, _, said = line.partition("=")
                    if name.strip().lstrip("#") == key and (not line.startswith("#") or value is None):
                        value = said.strip()
        except OSError:
            continue
    return value


def _inside(folder: str) -> List[str]:
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".conf")]
    except OSError:
        return []
