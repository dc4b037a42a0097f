"""`pull`: serves what a run has left in its folder on this host; see `contract.pulling` for the conversation.

Only plain files inside that folder are read, and no link is followed. Nothing is changed but for two things: a
checkpoint that is being fetched is held, so that pruning it here does not take it away half-way; and one that is home
is marked, for an agent that prunes no other.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Dict, List, Optional

from ..contract import pulling, wire
from ..contract.inside import Inside
from .flow import EndedError, Flow
from .follow import Follower
from .hold import Held, mark_home
from .listing import Lister
from .serve import Server
from .talk import Talk

_MOST_KNOWN = 100_000


def main(argv: List[str]) -> int:
    """Serve one conversation; returns when its input ends."""
    if argv:
        print("usage: python WORKER_FOLDER pull    (speaks over standard input and output)", file=sys.stderr)
        return 2
    try:
        Pull(Talk()).serve()
    except (wire.WireError, ValueError) as error:
        print(f"pull: {error}", file=sys.stderr)
        return 1
    except (EndedError, BrokenPipeError):
        return 0
    except OSError as error:
        print(f"pull: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        return 1
    return 0


class Pull:
    """One conversation about one folder."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._root: Optional[Inside] = None
        self._held: Optional[Held] = None
        self._known: Dict[str, List[Any]] = {}

    def serve(self) -> None:
        """Answer until the input ends, or nobody has said a word for long.

        Raises OSError, wire.WireError, ValueError, EndedError.
        """
        frame = self._talk.receive()
        if frame is None:
            return
        if not self._open(frame[0]):
            return
        answers: Dict[str, Callable[[wire.Message], None]] = {
            pulling.LIST: self._list,
            pulling.HOLD: self._hold,
            pulling.RELEASE: self._release,
            pulling.AT_HOME: self._at_home,
            pulling.GET: self._get,
            pulling.DIGEST: self._digest,
            pulling.KNOWN: self._know,
            pulling.FOLLOW: self._follow,
            pulling.ACK: lambda _: None,
        }
        while True:
            # Whoever is behind a link that was cut has asked again over another; sshd would keep this one for hours.
            frame = self._talk.receive(pulling.SILENCE_S)
            if frame is None:
                return
            answer = answers.get(frame[0]["type"])
            if answer is None:
                raise wire.WireError(f"an unknown request: {frame[0]['type']!r:.40}")
            answer(frame[0])

    def _open(self, message: wire.Message) -> bool:
        folder = message.get("folder")
        if message["type"] != pulling.OPEN or not isinstance(folder, str) or "\0" in folder:
            raise wire.WireError("the first request must open a folder")
        path = os.path.expanduser(folder)
        if not os.path.isabs(path):
            raise wire.WireError("the folder must be an absolute path, or begin with ~")
        try:
            self._root = Inside(path)
        except (FileNotFoundError, NotADirectoryError):
            self._talk.send({"type": pulling.OPENED, "exists": False})
            return False
        self._held = Held(self._root)
        self._talk.send({"type": pulling.OPENED, "exists": True})
        return True

    def _folder(self) -> Inside:
        assert self._root is not None
        return self._root

    def _holds(self) -> Held:
        assert self._held is not None
        return self._held

    def _list(self, message: wire.Message) -> None:
        kinds = message.get("kinds")
        Lister(self._folder(), Flow(self._talk, 0)).send(kinds if isinstance(kinds, list) else [])

    def _hold(self, message: wire.Message) -> None:
        name = str(message.get("name"))
        try:
            files = self._holds().take(name)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            self._talk.send({"type": pulling.GONE, "name": name, "why": why})
            return
        folder = self._holds().folder
        self._talk.send({"type": pulling.HELD, "name": name, "folder": folder, "files": files})

    def _release(self, _: wire.Message) -> None:
        self._holds().release()

    def _at_home(self, message: wire.Message) -> None:
        mark_home(self._folder(), str(message.get("name")))

    def _get(self, message: wire.Message) -> None:
        files = message.get("files")
        flow = Flow(self._talk, message.get("window"))
        server = Server(self._folder(), self._holds().opened, flow)
        server.send(files if isinstance(files, list) else [], bool(message.get("hash")))

    def _digest(self, message: wire.Message) -> None:
        files = message.get("files")
        server = Server(self._folder(), self._holds().opened, Flow(self._talk, 0))
        digests = server.digests(files if isinstance(files, list) else [])
        self._talk.send({"type": pulling.DIGESTS, "digests": digests})

    def _know(self, message: wire.Message) -> None:
        files = message.get("files")
        for entry in files if isinstance(files, list) else []:
            if len(self._known) >= _MOST_KNOWN:
                raise wire.WireError("more files than a run can have")
            if isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], str):
                self._known[entry[0]] = entry[1:]

    def _follow(self, message: wire.Message) -> None:
        follower = Follower(self._folder(), Flow(self._talk, message.get("window")), self._known)
        self._known = {}
        follower.run()
        if not follower.enough:
            raise EndedError
        self._talk.send({"type": pulling.DONE})
