"""What is in a run's folder: checkpoints, output, logs, in pages."""

from __future__ import annotations

import os
import stat
from typing import Any, Iterator, List

from ..contract import pulling
from ..contract.inside import MOST_DEPTH, Inside, text
from ..contract.layout import parse_checkpoint_name
from .flow import Flow

_MOST = 200_000
_PAGE_BYTES = 1 << 18


class Lister:
    """Lists a host folder over a flow."""

    def __init__(self, root: Inside, flow: Flow) -> None:
        self._root = root
        self._flow = flow
        self._page: List[List[Any]] = []
        self._bytes = 0

    def send(self, kinds: List[Any]) -> None:
        """Every file of these kinds; `cut` says that there are more than anybody should have."""
        self._root.refresh()  # the agent moves folders
        checkpoints = self._checkpoints() if pulling.CHECKPOINTS in kinds else []
        cut = False
        for count, entry in enumerate(self._files(kinds)):
            if count == _MOST:
                cut = True
                break
            self._add(entry)
        self._flow.send(
            {"type": pulling.LISTING, "files": self._page, "checkpoints": checkpoints, "more": False, "cut": cut}
        )

    def _add(self, entry: List[Any]) -> None:
        self._page.append(entry)
        self._bytes += 60 + 6 * len(entry[0])  # JSON writes a byte that is no UTF-8 as six
        if len(self._page) >= pulling.PAGE or self._bytes >= _PAGE_BYTES:
            self._flow.send({"type": pulling.LISTING, "files": self._page, "checkpoints": [], "more": True})
            self._page, self._bytes = [], 0

    def _files(self, kinds: List[Any]) -> Iterator[List[Any]]:
        if pulling.LOGS in kinds:
            for path in log_files(self._root, generations(self._root)):
                yield from self._plain(path)
        if pulling.OUTPUT in kinds:
            yield from self._walk("output")
            for generation in generations(self._root):
                for name in sorted(self._root.names(generation)):
                    path = f"{generation}/{text(name)}/output"
                    if pulling.is_output(path + "/x"):
                        yield from self._walk(path)

    def _walk(self, path: str, depth: int = 0) -> Iterator[List[Any]]:
        for name in sorted(self._root.names(path)):
            inner = f"{path}/{text(name)}"
            try:
                found = self._root.stat(inner)
            except (OSError, ValueError):
                continue
            if stat.S_ISDIR(found.st_mode) and depth < MOST_DEPTH - 4:
                yield from self._walk(inner, depth + 1)
            elif stat.S_ISREG(found.st_mode):
                yield entry(inner, found)

    def _plain(self, path: str) -> Iterator[List[Any]]:
        try:
            found = self._root.stat(path)
        except OSError:
            return
        if stat.S_ISREG(found.st_mode):
            yield entry(path, found)

    def _checkpoints(self) -> List[List[Any]]:
        found = []
        for name in sorted(self._root.names("checkpoints")):
            if parse_checkpoint_name(text(name)) is None:
                continue
            folder = f"checkpoints/{text(name)}"
            sizes = [self._root.size(f"{folder}/{text(file)}") for file in self._root.names(folder)]
            found.append([text(name), sum(sizes)])
        return found[-pulling.PAGE :]


def entry(path: str, found: os.stat_result) -> List[Any]:
    """One line of a listing."""
    return [path, found.st_size, found.st_mtime_ns, found.st_ino]


def generations(root: Inside) -> List[str]:
    """The folders of generations, the newest last."""
    names = [text(name) for name in root.names()]
    numbers = [int(name[1:]) for name in names if name[:1] == "g" and pulling.is_log(f"{name}/rank0.log")]
    return [f"g{number}" for number in sorted(numbers)]


def log_files(root: Inside, folders: List[str]) -> Iterator[str]:
    """Every path that is a journal's, a log's or a progress file's, in these generations."""
    yield from ("events.jsonl", "agent.log", "zygote.log")
    for folder in folders:
        for name in sorted(root.names(folder)):
            path = f"{folder}/{text(name)}"
            if pulling.is_log(path):
                yield path
