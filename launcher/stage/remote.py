"""One host's staging conversation: trees brought there, setup run, an environment captured, the run's copy made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from launcher.errors import NotFitError
from launcher.hosts.package import Package
from launcher.hosts.session import Session
from launcher.hosts.visit import Visit, visit
from launcher.stage.host_errors import told_by_host
from launcher.stage.travel import Piece, Tree, squeezed
from worker.contract import bulk

Tell = Callable[[str], None]
VERB = "stage"
SILENCE_S = 60.0  # a host that is at work says so every few seconds
REMOVAL_S = 600.0  # but not while it removes
_SLOW = 20e6  # bytes a second: below that, deflating large data gains time
_TRIAL = 4 << 20


@dataclass(frozen=True)
class Activated:
    """What `activate:` makes of a host's environment: variables to set, and names that it takes away."""

    env: Mapping[str, str] = field(default_factory=dict)
    gone: Sequence[str] = ()


@dataclass(frozen=True)
class SetUp:
    """`source`: what a run's copy is made from; `ran`: whether the commands were run just now; `log`: on the host."""

    source: str
    ran: bool
    log: str


@dataclass(frozen=True)
class Left:
    """A tree, our code or a setup in a workdir. `used`: when it was last, in seconds since 1970; `busy`: it runs."""

    kind: str
    name: str
    size: int  # bytes on the disk
    used: float
    busy: bool


@dataclass(frozen=True)
class LeftRun:
    """The folder of a run in a workdir, this host's.

    `used`: when something in it was last changed, by the host's clock; `busy`: it lives, or cannot be removed safely;
    `begun`: an agent was there.
    """

    name: str
    size: int  # bytes on the disk
    used: float
    busy: bool
    begun: bool


@dataclass(frozen=True)
class LeftRuns:
    """`now` is the host's clock; `alive`: any run of the user's lives there, in whatever workdir."""

    found: Sequence[LeftRun]
    now: float
    alive: bool


class There:
    """A host on which staging is done, one thing after another; blocking, for one thread.

    `tell` is told, in a few words, what takes time; `printed` is given what setup commands print. Every method raises
    NotFitError, after which the conversation is over; a new one goes on where this one was cut.
    """

    def __init__(
        self,
        session: Session,
        *,
        workdir: str,
        package: Package | None = None,
        tell: Tell = lambda _: None,
        printed: Callable[[bytes], None] = lambda _: None,
        during: Visit | None = None,
    ) -> None:
        """`during`: a visit that goes on afterwards, instead of a conversation of our own."""
        self._own = during is None
        entered = during or visit(session, workdir=workdir, package=package, verb=VERB)
        self.host = session.name
        self.workdir = entered.workdir  # absolute, on the host, as all that follow
        self.code = entered.code
        self.python = entered.python  # the version of its python3
        self._talk = entered.talk
        self._tell = tell
        self._printed = printed

    def bring(self, tree: Tree, kind: str) -> str:
        """The folder of a tree on the host, under `<workdir>/<kind>`. An unchanged one costs one round trip."""
        self._send({"type": "stage", "workdir": self.workdir, "kind": kind, "digest": tree.digest})
        with self._understood():
            while True:
                message, raw = self._hear("here", "listing?", "lacks")
                if message["type"] == "here":
                    return str(message["path"])
                if message["type"] == "listing?":
                    self._send_long("listing", tree.listing)
                else:
                    self._send_what_lacks(tree, self._whole("lacks", message, raw))

    def setup(self, commands: Sequence[str], inputs: str, source: str = "") -> SetUp:
        """Run the commands in a copy of the tree at `source`, unless they have been run for these `inputs`."""
        order = {"type": "setup", "workdir": self.workdir, "source": source, "inputs": inputs}
        self._send({**order, "commands": list(commands)})
        with self._understood():
            while True:
                message, raw = self._hear("setup", "command", "output")
                if message["type"] == "output":
                    self._printed(raw)
                elif message["type"] == "command":
                    self._tell(f"setup: {commands[int(message['number'])]}")
                else:
                    return SetUp(str(message["source"]), bool(message["ran"]), str(message["log"]))

    def activate(self, line: str) -> Activated:
        """Run a line of shell on the host and see what it makes of the environment."""
        self._send({"type": "activate", "workdir": self.workdir, "line": line})
        with self._understood():
            message, _ = self._hear("activate")
            env = {str(k): str(v) for k, v in dict(message["env"]).items()}
            return Activated(env, tuple(str(name) for name in message["gone"]))

    def copy(self, source: str, to: str) -> str:
        """Make a run's own copy of a staged tree, or of nothing; one that is there gets back what was changed in it."""
        self._send({"type": "copy", "workdir": self.workdir, "source": source, "to": to})
        with self._understood():
            return str(self._hear("copy")[0]["path"])

    def look(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        """Each path without `~`, and what is there: `file`, `folder`, nothing (empty), or why it cannot be read."""
        self._send({"type": "look", "workdir": self.workdir, "paths": list(paths)})
        with self._understood():
            message, _ = self._hear("look")
            found = zip(message["paths"], message["found"], strict=True)
            return [(str(path), str(kind)) for path, kind in found]

    def left(self) -> list[Left]:
        """What staging has left in the workdir, of this run and of all before."""
        self._send({"type": "list", "workdir": self.workdir})
        found: list[Left] = []
        with self._understood():
            while True:
                message, _ = self._hear("list")
                found += (
                    Left(str(e["kind"]), str(e["name"]), int(e["bytes"]), float(e["used"]), bool(e["busy"]))
                    for e in message["found"]
                )
                if message["last"]:
                    return found

    def remove(self, left: Left) -> None:
        self._send({"type": "remove", "workdir": self.workdir, "kind": left.kind, "name": left.name})
        self._hear("remove", silence_s=REMOVAL_S)

    def runs(self) -> LeftRuns:
        """The folders of runs in the workdir, `<run>/<name of this host>`; of other hosts that share it, none."""
        self._send({"type": "runs", "workdir": self.workdir, "host": self.host})
        found: list[LeftRun] = []
        with self._understood():
            while True:
                message, _ = self._hear("runs")
                found += (
                    LeftRun(str(e["run"]), int(e["bytes"]), float(e["used"]), bool(e["busy"]), bool(e["begun"]))
                    for e in message["found"]
                )
                if message["last"]:
                    return LeftRuns(found, float(message["now"]), bool(message["alive"]))

    def forget(self, run: LeftRun) -> None:
        """Remove a run's folder, unless it lives, or anything in it was changed since."""
        about = {"workdir": self.workdir, "run": run.name, "host": self.host, "used": run.used}
        self._send({"type": "forget", **about})
        self._hear("forget", silence_s=REMOVAL_S)

    def close(self) -> None:
        """May be called twice."""
        if self._own:
            self._talk.close()

    def __enter__(self) -> There:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and self._own:
            self._talk.end_input()
        self.close()

    def _send_what_lacks(self, tree: Tree, data: bytes) -> None:
        lacks = tree.lacks(data)
        total = sum(tree.items[lack.item].size - lack.have for lack in lacks)
        sent, began = 0, time.monotonic()
        told = began
        for deflated, piece in self._fitting(tree.pieces(lacks)):
            self._send({"type": "piece", "z": True} if deflated else {"type": "piece"}, piece)
            sent += len(piece)
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                self._tell(f"sending {total / 1e6:.1f} MB: {sent / (told - began) / 1e6:.1f} MB/s")

    def _fitting(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Large data come as they are; on a slow line they are deflated."""
        sent, waited = 0, 0.0
        for deflated, piece in pieces:
            if not deflated and sent > _TRIAL and sent / max(waited, 1e-9) < _SLOW:
                deflated, piece = squeezed(piece)
            before = time.monotonic()
            yield deflated, piece
            waited += time.monotonic() - before
            sent += len(piece)

    def _send(self, message: dict[str, Any], raw: bytes = b"") -> None:
        try:
            self._talk.send(message, raw)
        except NotFitError as error:
            raise (self._last_words() or error) from error

    def _last_words(self) -> NotFitError | None:
        """A host that gave up in the middle has said why before it went."""
        try:
            while frame := self._talk.receive(timeout_s=1.0):
                if frame[0]["type"] == "error":
                    return told_by_host(self.host, frame[0])
        except NotFitError:
            return None
        return None

    def _send_long(self, kind: str, data: bytes) -> None:
        for at in range(0, max(1, len(data)), bulk.MAX_RAW):
            piece = data[at : at + bulk.MAX_RAW]
            self._send({"type": kind, "last": at + bulk.MAX_RAW >= len(data)}, piece)

    def _whole(self, kind: str, message: Mapping[str, Any], raw: bytes) -> bytes:
        data = raw
        while not message.get("last"):
            message, raw = self._hear(kind)
            data += raw
        return data

    def _hear(self, *kinds: str, silence_s: float = SILENCE_S) -> bulk.Frame:
        """The next frame that is one of these."""
        while True:
            frame = self._talk.receive(timeout_s=silence_s)
            if frame is None:
                raise NotFitError(f"{self.host}: staging ended without a word", hint="run the command again")
            message = frame[0]
            if message["type"] == "error":
                raise told_by_host(self.host, message)
            if message["type"] == "waiting":
                if message.get("what"):
                    self._tell("waiting for another launcher that is at work there")
            elif message["type"] in kinds:
                return frame
            else:
                raise NotFitError(f"{self.host} answers with what is not our protocol", hint="run the command again")

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """What comes from a host is not trusted to be of the right form."""
        try:
            yield
        except (ValueError, TypeError, LookupError) as error:
            raise NotFitError(f"{self.host} answers with what is not our protocol: {error}") from error
