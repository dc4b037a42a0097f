"""What a host could not do while we staged, in words for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.errors import NotFitError
from launcher.hosts.door_errors import clean, refused

_LINES = 20


def told_by_host(host: str, about: Mapping[str, Any]) -> NotFitError:
    """The error for an `error` frame. Its texts are cut, and control characters taken out."""
    kind = about.get("kind")
    if kind in ("setup", "activate"):
        return _failed_shell(host, about)
    path = clean(str(about.get("path", "?")))
    if kind == "room":
        needs, free = float(about.get("needs", 0)) / 1e6, float(about.get("free", 0)) / 1e6
        return NotFitError(
            f"{host}: {path} has room for {free:.1f} MB, and {needs:.1f} MB are to come",
            hint="free some space there (`launcher clean`), or set `workdir` to another disk",
        )
    if kind == "busy":
        return NotFitError(f"{host}: {path} is in use by now, and stays", hint="`launcher ps` shows what is alive")
    if kind == "slow":
        return NotFitError(
            f"{host}: the `activate` line has not ended in {float(about.get('limit_s', 0)):g} s",
            hint=f"try it: `ssh {host}`, then the line; it must not wait for anything",
        )
    if kind == "shell":
        return NotFitError(
            f"{host}: {path} cannot be started: {clean(str(about.get('why', '')))}", hint="install bash there"
        )
    if kind == "order":
        return NotFitError(
            f"{host}: staging was misunderstood there: {clean(str(about.get('why', '')))}", hint="run it again"
        )
    return refused(host, {str(key): str(value) for key, value in about.items()})


def _failed_shell(host: str, about: Mapping[str, Any]) -> NotFitError:
    status = int(about.get("status", 0))
    how = f"was ended by signal {-status}" if status < 0 else f"ended with {status}"
    lines = [clean(line.expandtabs()) for line in str(about.get("tail", "")).splitlines()][-_LINES:]
    told = "\n  ".join(["", *lines]) if any(lines) else " without a word"
    if about.get("kind") == "activate":
        return NotFitError(
            f"{host}: the `activate` line {how}:{told}",
            hint=f"run it by hand: `ssh {host}`, then `bash -l` and the line",
        )
    return NotFitError(
        f"{host}: the setup command `{clean(str(about.get('command', '?')))}` {how}:{told}",
        hint=f"all it printed is in {clean(str(about.get('log', '?')))} on {host}; mend `setup`, and run it again",
    )
