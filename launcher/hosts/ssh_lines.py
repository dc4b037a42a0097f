"""The lines of ~/.ssh/config and of what it includes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import NotFitError

MAX_DEPTH = 16

_KEYWORD = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*?)\s*$", re.DOTALL)
# These take the rest of the line as it is, quotes and all.
_RAW = {"proxycommand", "localcommand", "remotecommand", "knownhostscommand"}


@dataclass(frozen=True)
class Setting:
    """One line: a keyword in lower case and what stands behind it."""

    where: str
    key: str
    args: tuple[str, ...]

    @property
    def value(self) -> str:
        return self.args[0]


@dataclass(frozen=True)
class Include:
    files: tuple[tuple[Item, ...], ...]


Item = Setting | Include


def split(text: str) -> list[str]:
    """The words of a line: quotes hold words together, a word that begins with # ends the line.

    Raises ValueError if a quote is not closed.
    """
    words: list[str] = []
    word, quote, inside = "", "", False
    characters = iter(text)
    for char in characters:
        if char == "\\":
            after = next(characters, "")
            word, inside = word + (after if after in "\"'\\ " and after else char + after), True
        elif quote:
            word, quote = (word, "") if char == quote else (word + char, quote)
        elif char in "\"'":
            quote, inside = char, True
        elif char in " \t":
            if inside:
                words.append(word)
            word, inside = "", False
        elif char == "#" and not inside:
            break
        else:
            word, inside = word + char, True
    if quote:
        raise ValueError("a quote is not closed")
    return [*words, word] if inside else words


def read_items(path: Path, folder: Path, depth: int) -> Iterator[Item]:
    if depth > MAX_DEPTH:
        raise NotFitError(f"{path}: files that include each other more than {MAX_DEPTH} deep")
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise NotFitError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        setting = _parse(line, f"{path}:{number}")
        if setting.key == "include":
            yield Include(tuple(tuple(read_items(one, folder, depth + 1)) for one in _included(setting, folder)))
        else:
            yield setting


def _parse(line: str, where: str) -> Setting:
    found = _KEYWORD.match(line)
    try:
        words = [] if not found else [found[2]] if found[1].lower() in _RAW else split(found[2])
    except ValueError as error:
        raise NotFitError(f"{where}: {error}: {line.strip()}") from error
    if not found or not words:
        raise NotFitError(f"{where}: a keyword and what it is set to were expected: {line.strip()}")
    return Setting(where, found[1].lower(), tuple(words))


def _included(setting: Setting, folder: Path) -> Iterator[Path]:
    for pattern in setting.args:
        full = os.path.expanduser(pattern) if pattern.startswith("~") else str(folder / pattern)  # noqa: PTH111
        yield from (Path(found) for found in sorted(glob.glob(full)))  # noqa: PTH207 - patterns may be absolute
