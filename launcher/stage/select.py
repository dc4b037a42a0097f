"""Which of the user's files travel: not what git ignores, not secrets, not caches, nothing outside the folder."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from launcher.errors import LauncherError, UsageError
from launcher.spec.model import SyncSpec
from launcher.stage import tree
from launcher.stage.tree import Entry

# Whatever any pattern says.
NEVER_FOLDERS = frozenset(
    {
        *(".git", ".hg", ".svn", "__pycache__"),
        *(".ssh", ".aws", ".azure", ".docker", ".gcloud", ".gnupg", ".huggingface", ".kaggle", ".kube"),
    }
)
NEVER_FILES = (
    ".git",  # of a submodule or a worktree
    ".env",
    ".env.*",
    ".git-credentials",
    ".netrc",
    ".npmrc",
    ".pypirc",
    "credentials.json",
    "kaggle.json",
    "secrets.json",
    "secrets.toml",
    "secrets.y*ml",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.pem",
    "*.key",
    "*.ppk",
    "*.p12",
    "*.pfx",
    "*.pyc",
)
_KEY_BYTES = 64 * 1024  # no private key is longer
_IGNORE_BYTES = 1 << 20


class _Verdict(Protocol):
    @property
    def include(self) -> bool | None: ...


class _Patterns(Protocol):
    def check_file(self, file: str) -> _Verdict: ...


def selected(root: Path, exclude: Sequence[str], runs: Path, *, ignored: bool = False) -> list[Entry]:
    """What of a folder travels, in no order. An ignored folder is not looked into; with `ignored`, none is.

    Raises UsageError for a link that leads out of the folder, NotFitError for what cannot be read.
    """
    with tree.telling(root, "be read"):
        home = Path(os.path.realpath(root))
        avoided = _identity(runs)
    chosen: list[Entry] = []
    # The patterns of a folder are its own and those of all above it, the nearest first; `exclude` beats them all.
    first = _compiled(exclude, "sync.exclude")
    waiting: list[tuple[str, tuple[tuple[str, _Patterns], ...]]] = [("", ())]
    while waiting:
        base, above = waiting.pop()
        folder = root / base
        with tree.telling(folder, "be read"):
            items = sorted(os.scandir(folder), key=lambda item: item.name)
            if base and any(item.name == "pyvenv.cfg" for item in items):
                chosen.remove(Entry(base[:-1], "dir"))
                continue
            patterns = () if ignored else (*_own_patterns(folder, base), *above)
            for item in items:
                path = base + item.name
                is_folder = item.is_dir(follow_symlinks=False)
                if _never(item.name, is_folder) or _ignored(path + "/" * is_folder, first, patterns):
                    continue
                if is_folder and avoided is not None and _identity(Path(item.path)) == avoided:
                    continue
                chosen += _taken(Path(item.path), path, home)
                if is_folder:
                    waiting.append((path + "/", patterns))
    return chosen


def _taken(path: Path, name: str, home: Path) -> Iterator[Entry]:
    with tree.telling(path, "be read"):
        entry = tree.entry_at(path, name)
        if entry is None:
            return
        if entry.kind == "link":
            yield Entry(name, "link", _inner_target(path, name, entry.target, home))
        elif entry.kind == "dir" or not _private_key(path, entry.size):
            yield entry


def too_big(root: Path, entries: Sequence[Entry], sync: SyncSpec) -> LauncherError:
    """The error for a folder over `max`: what is biggest in it, and the line that leaves it out."""
    total = sum(entry.size for entry in entries)
    culprits: list[tuple[str, int]] = []
    rest = total
    for name, size in _culprits(entries):
        if rest <= sync.max_bytes or len(culprits) == 5:
            break
        culprits.append((name, size))
        rest -= size
    told = ", ".join(f"{name} ({_megabytes(size)})" for name, size in culprits)
    lines = [*sync.exclude, *(_pattern(name) for name, _ in culprits)]
    return UsageError(
        f"{root} is {_megabytes(total)}, and `sync: max` allows {_megabytes(sync.max_bytes)}; the biggest: {told}",
        hint="what the program does not need, leave out: "
        f"`sync: {{exclude: {json.dumps(lines, ensure_ascii=False)}}}`, or allow more with `max`",
    )


def _culprits(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """What is in the root, biggest first. One thing that makes nearly all of a folder stands in the folder's place."""
    inside: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        parts = entry.path.split("/")
        for depth in range(len(parts)):
            name = "/".join(parts[: depth + 1]) + "/" * (depth < len(parts) - 1)
            inside["/".join(parts[:depth]) + "/" * (depth > 0)][name] += entry.size
    found = []
    for top, top_size in inside[""].items():
        name, size = top, top_size
        while name.endswith("/"):
            inner, inner_size = max(inside[name].items(), key=lambda pair: pair[1])
            if inner_size < 0.95 * size:
                break
            name, size = inner, inner_size
        found.append((name, size))
    return sorted(found, key=lambda pair: -pair[1])


def _pattern(name: str) -> str:
    return "/" + "".join("\\" + c if c in "\\*?[" else c for c in name)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def is_secret(name: str) -> bool:
    """Whether a file of this name never travels."""
    return _never(name, False)


def _never(name: str, is_folder: bool) -> bool:
    return name in NEVER_FOLDERS if is_folder else any(fnmatchcase(name, pattern) for pattern in NEVER_FILES)


def _ignored(path: str, first: _Patterns | None, patterns: Sequence[tuple[str, _Patterns]]) -> bool:
    if first is not None and (said := first.check_file(path).include) is not None:
        return said
    for base, own in patterns:
        if (said := own.check_file(path[len(base) :]).include) is not None:
            return said
    return False


def _own_patterns(folder: Path, base: str) -> Iterator[tuple[str, _Patterns]]:
    file = folder / ".gitignore"
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        if file.is_symlink():  # git does not follow it either
            return
        raise tree.told(error, file, "be read") from error
    with open(descriptor, "rb") as opened:
        text = opened.read(_IGNORE_BYTES).decode("utf-8", "surrogateescape")
    compiled = _compiled(text.splitlines(), None)
    if compiled is not None:
        yield base, compiled


def _compiled(lines: Sequence[str], where: str | None) -> _Patterns | None:
    """Patterns as git reads them. With `where`, one that makes no sense is an error; git itself passes over it."""
    if not any(line.strip() for line in lines):
        return None
    from pathspec import GitIgnoreSpec

    good = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
            good.append(line)
        except ValueError as error:
            if where is not None:
                raise UsageError(
                    f"{where}: {line!r} is not a pattern: {error}", hint="write it as in a .gitignore file"
                ) from error
    return GitIgnoreSpec.from_lines(good)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _inner_target(path: Path, name: str, target: str, home: Path) -> str:
    """Where a link points in the copy. A link with a whole path into the folder becomes a relative one."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(home):
        raise UsageError(
            f"{path} is a link to {real}, which is outside {home}: only what lies in the folder travels",
            hint=f"leave it out with `sync: {{exclude: [{json.dumps(_pattern(name), ensure_ascii=False)}]}}` and give "
            "your program the whole path, or put a copy in the place of the link",
        )
    lexical = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118, PTH120
    if not os.path.isabs(target) and lexical != ".." and not lexical.startswith("../"):  # noqa: PTH117
        return target
    return os.path.relpath(real, os.path.dirname(home / name))  # noqa: PTH120


def _private_key(path: Path, size: int) -> bool:
    """Whether a file is a private key under a name that does not tell. Raises OSError if it cannot be read."""
    if not 64 <= size <= _KEY_BYTES:
        return False
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        head = file.read(4096)
    if head.startswith(b"{"):  # the file of a service account of Google's
        return b'"private_key"' in head and b"-----BEGIN PRIVATE KEY" in head
    return head.startswith((b"-----BEGIN ", b"---- BEGIN ")) and b"PRIVATE KEY" in head[:100]
