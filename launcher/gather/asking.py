"""The coordinator's end of the `pull` errand: asks one host for what is in one folder."""

from __future__ import annotations

import select
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from launcher.errors import NotFitError
from launcher.gather import checked
from launcher.gather.arrivals import Arrivals, Sink, Want
from launcher.gather.checked import NonsenseError, Remote
from launcher.hosts.door import enter
from launcher.hosts.session import Session
from launcher.hosts.talk import Talk
from worker.contract import bulk, pulling, wire
from worker.contract.layout import parse_checkpoint_name

ANSWER_S = 30.0
SILENT_S = 12.0  # a follower says something every three seconds
WINDOW = 4 << 20
MOST_FILES = 200_000
_MOST_HELD = 100


class EndedError(Exception):
    """The errand has ended, though the connection has not: it may be started again."""


class NoFolderError(EndedError):
    """There is no such folder on the host, or not yet."""


@dataclass(frozen=True)
class Listing:
    """What there is. `cut`: there was more than anybody should have."""

    files: tuple[Remote, ...]
    checkpoints: tuple[str, ...]
    cut: bool


class Pull:
    """One conversation about one folder on a host. For one thread.

    Every call raises NotFitError (the connection broke, or the host is silent), EndedError or NonsenseError; the
    constructor NoFolderError, too.
    """

    def __init__(self, session: Session, folder: str, *, workdir: str) -> None:
        self.host = session.name
        self._channel = enter(session, "pull", workdir=workdir)
        self._talk = Talk(session.name, self._channel)
        try:
            self._say({"type": pulling.OPEN, "folder": folder})
            if self._hear(pulling.OPENED)[0].get("exists") is not True:
                raise NoFolderError(f"{self.host} has no folder {folder}")
        except BaseException:
            self._talk.close()
            raise

    def __enter__(self) -> Pull:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the conversation. May be called twice."""
        self._talk.close()

    def listing(self, *kinds: str) -> Listing:
        """What there is of these kinds."""
        self._say({"type": pulling.LIST, "kinds": [*kinds]})
        files: list[Remote] = []
        while True:
            message, _ = self._hear(pulling.LISTING)
            files += (checked.remote(entry) for entry in checked.entries(message, "files", 4))
            if len(files) > MOST_FILES:
                raise NonsenseError("more files than a listing may have")
            if message.get("more") is not True:
                names = [entry[0] for entry in checked.entries(message, "checkpoints", 2)]
                found = tuple(name for name in names if isinstance(name, str) and parse_checkpoint_name(name))
                return Listing(tuple(files), found, message.get("cut") is True)

    def hold(self, name: str) -> tuple[str, dict[str, int]] | None:
        """Keep a checkpoint from being pruned: (where its files are, their sizes); None when it is gone."""
        self._say({"type": pulling.HOLD, "name": name})
        message, _ = self._hear(pulling.HELD, pulling.GONE)
        if message["type"] == pulling.GONE:
            return None
        folder = message.get("folder")
        if not isinstance(folder, str):
            raise NonsenseError("a checkpoint nowhere")
        return folder, checked.held(message, _MOST_HELD)

    def release(self) -> None:
        """Let go of what is held."""
        self._say({"type": pulling.RELEASE})

    def at_home(self, name: str) -> None:
        """The host may prune this checkpoint, as far as we are concerned."""
        self._say({"type": pulling.AT_HOME, "name": name})

    def get(self, wants: Sequence[Want], sink: Sink, *, with_hash: bool, window: int = WINDOW) -> None:
        """Bring these files, in this order. Raises what `sink` raises, too; the conversation is of no use then."""
        files = [[want.path, want.offset, want.tail] for want in wants]
        self._say({"type": pulling.GET, "files": files, "window": window, "hash": with_hash})
        arrivals = Arrivals(wants, sink)
        while True:
            message, raw = self._hear(pulling.PARTS, pulling.DONE)
            if message["type"] == pulling.DONE:
                break
            arrivals.feed(message, raw)
            if raw:
                self.acknowledge(len(raw))
        if not arrivals.complete:
            raise NonsenseError("not every file that was asked for")

    def digests(self, files: Sequence[tuple[str, int]]) -> list[str | None]:
        """The SHA-256 of the first bytes of each file on the host; None where there are not that many."""
        self._say({"type": pulling.DIGEST, "files": [[path, size] for path, size in files]})
        digests = self._hear(pulling.DIGESTS)[0].get("digests")
        if not isinstance(digests, list) or len(digests) != len(files):
            raise NonsenseError("not as many hashes as were asked for")
        return [digest if isinstance(digest, str) else None for digest in digests]

    def follow(self, known: Iterable[tuple[str, int, int | None, str]], window: int) -> None:
        """Begin to follow the run's logs, of which (path, size, inode, fingerprint) are here; `next` brings the rest.

        Only `next`, `acknowledge`, `sync` and `enough` may be called after it.
        """
        page: list[list[Any]] = []
        for entry in known:
            page.append([*entry])
            if len(page) == pulling.PAGE:
                self._say({"type": pulling.KNOWN, "files": page})
                page = []
        self._say({"type": pulling.KNOWN, "files": page})
        self._say({"type": pulling.FOLLOW, "window": window})

    def next(self, wake: int, timeout_s: float) -> bulk.Frame | None:
        """The next frame of a follower; None after so long, or when the descriptor `wake` is readable."""
        if not self._talk.pending:
            poll = select.poll()
            poll.register(self._talk.fileno(), select.POLLIN)
            poll.register(wake, select.POLLIN)
            found = poll.poll(max(0, int(timeout_s * 1000)))
            if not any(descriptor != wake for descriptor, _ in found):
                return None
        return self._hear(pulling.PARTS, pulling.ALIVE, pulling.SYNCED, timeout_s=SILENT_S)

    def acknowledge(self, count: int) -> None:
        """So many bytes more are kept."""
        self._say({"type": pulling.ACK, "bytes": count})

    def sync(self, number: int) -> None:
        """Ask to be told when all that is there now has been sent."""
        self._say({"type": pulling.SYNC, "n": number})

    def enough(self) -> None:
        """End the following; what was under way is dropped, and anything may be asked again."""
        self._say({"type": pulling.ENOUGH})
        while self._hear(pulling.PARTS, pulling.SYNCED, pulling.DONE)[0]["type"] != pulling.DONE:
            pass

    def _say(self, message: wire.Message) -> None:
        self._talk.send(message, timeout_s=ANSWER_S)

    def _hear(self, *types: str, timeout_s: float = ANSWER_S) -> bulk.Frame:
        while True:
            frame = self._talk.receive(timeout_s=timeout_s)
            if frame is None:
                said = self._channel.errors().strip()
                raise EndedError(f"{self.host}: the errand has ended" + (f": {said[-500:]}" if said else ""))
            if frame[0]["type"] in types:
                return frame
            if frame[0]["type"] == pulling.FAILED:
                raise NotFitError(f"{self.host}: {frame[0].get('why')!s:.500}")
            if frame[0]["type"] != pulling.ALIVE:
                raise NonsenseError(f"an answer that does not fit: {frame[0]['type']!r:.40}")
