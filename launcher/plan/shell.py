"""A rank as a line for a POSIX shell, so that a person can run it by hand. Pure."""

from __future__ import annotations

import re
import shlex

from launcher.errors import RunError
from launcher.plan.model import RankPlan
from worker.contract import names

# Characters that a terminal or a text encoding would change on the way: written as printf's octal escapes instead.
# A line feed stays as it is: command substitution would drop it.
_UNSAFE = re.compile(r"[\x01-\x09\x0b-\x1f\x7f-\x9f\udc80-\udcff]+")


def line(rank: RankPlan, *, folded: bool = False) -> str:
    """What runs the rank when it is pasted in sh, bash, dash or zsh: its folders, environment, secrets and argv.

    Secrets are taken from that shell by name and appear in no argument list. The shell that it is pasted in keeps its
    working directory and umask. `folded` writes a setting a line, for readers and for shells without line editing,
    whose terminals cut a line at 4096 bytes. Raises RunError if facts of the rank are not known yet.
    """
    if not rank.known or rank.cwd is None:
        raise RunError(
            f"rank {rank.rank} on host {rank.host} cannot be written as a command yet: its facts are not known",
            hint="give them with --facts FILE, or let `launcher up` find them",
        )
    folders = [rank.cwd, *(rank.env.get(name) for name in ("TMPDIR", names.CHECKPOINT_DIR, names.OUTPUT_DIR))]
    secrets = "".join(f'{name}="${name}" ' for name in rank.secrets)
    argv = " ".join(quote(word) for word in rank.argv)
    if "=" in rank.argv[0]:  # env would take it for one more variable
        argv = f"sh -c 'exec \"$@\"' sh {argv}"
    parts = [
        "(umask 077 && mkdir -p",
        *(quote(folder) for folder in folders if folder),
        f"&& cd {quote(rank.cwd)}",
        f"&& {secrets}exec env",
        *(f"{name}={quote(value)}" for name, value in rank.env.items()),
        f"{argv})",
    ]
    return (" \\\n  " if folded else " ").join(parts)


def quote(text: str) -> str:
    """One word of a POSIX shell that stands for exactly this text, made of characters that survive being pasted."""
    if not _UNSAFE.search(text):
        return shlex.quote(text)
    word, at = "", 0
    for match in _UNSAFE.finditer(text):
        before = text[at : match.start()]
        octal = "".join(f"\\{byte:03o}" for byte in match.group().encode("utf-8", "surrogateescape"))
        word += (shlex.quote(before) if before else "") + f"\"$(printf '{octal}')\""
        at = match.end()
    return word + (shlex.quote(text[at:]) if text[at:] else "")
