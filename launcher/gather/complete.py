"""Everything that a run has left on one host comes home: what `launcher fetch` does for a run that is over."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from launcher.errors import NotFitError, RunError
from launcher.gather.asking import EndedError, Pull
from launcher.gather.at_home import AtHome, NoRoomError, RefusedError
from launcher.gather.checked import NonsenseError, in_frames
from launcher.gather.choosing import Choosing
from launcher.gather.copies import Copies, Turn
from launcher.gather.disk import Claim, Disk, FullDisk, StoppedError, Tell
from launcher.gather.mirror import Following
from launcher.gather.output import Limits, OutputAtHome
from launcher.gather.segments import Segments
from launcher.gather.which import ALL
from launcher.hosts.session import Session

_PIECE = 1 << 20
_LEAST_PROGRESS_S = 0.1
_MOST_LOOKS = 10_000
_LOOK_AGAIN_S = 0.3


@dataclass(frozen=True)
class Progress:
    """How far one host is: what is coming just now, and how many bytes have come."""

    host: str
    what: str
    bytes: int


@dataclass
class Completed:
    """What is at home of a host, and what was not to be had."""

    host: str
    logs: dict[str, int] = field(default_factory=dict)  # path: bytes
    checkpoints: list[str] = field(default_factory=list)
    output: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    bytes: int = 0  # that came over the connection


def complete(
    session: Session,
    folder: str,
    home: str,
    *,
    workdir: str,
    checkpoints: str = ALL,
    keep: int | None = None,
    copies: Copies | None = None,
    limits: Limits | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    stopping: threading.Event | None = None,
) -> Completed:
    """Bring all of `folder` on the host of `session` to `home`: logs, checkpoints, output; each file's hash compared.

    Blocks. Called again after a cut, it goes on where it was; what is here already is not sent again. A host that runs
    on is taken as it was at the call. `copies` is shared by the calls for all hosts of a run, which then bring one copy
    of each checkpoint and wait for each other with it.

    Raises NotFitError (no folder there, the connection broke), RunError (another process brings the same home, no room
    at home).
    """
    stop = stopping or threading.Event()
    claims: list[Claim] = []
    done = Completed(session.name)
    try:
        for what in ("logs", "checkpoints", "output"):
            claims.append(Claim(home, what))
        disk = Disk(home, FullDisk(done.problems.append), stop)
        try:
            with Pull(session, folder, workdir=workdir) as pull:
                completing = _Completing(pull, disk, done, progress, copies or Copies({}, shared=False))
                completing.files(checkpoints, keep, limits or Limits())
                completing.follow()
                if completing.compare():
                    completing.follow()
        finally:
            disk.close()
    except (EndedError, NonsenseError, ValueError) as error:
        raise NotFitError(f"{session.name}: {error}", hint="run the command again: it goes on where it was") from error
    except StoppedError as error:
        raise RunError("interrupted", hint="run the command again: it goes on where it was") from error
    except OSError as error:
        raise RunError(
            f"{home}: {error.strerror or error}", hint="see that there is room and that it is yours"
        ) from error
    finally:
        for claim in claims:
            claim.release()
    return done


class _Completing:
    def __init__(
        self, pull: Pull, disk: Disk, done: Completed, progress: Callable[[Progress], None], copies: Copies
    ) -> None:
        self._copies = copies
        self._pull = pull
        self._disk = disk
        self._done = done
        self._progress = progress
        self._told_at = 0.0

    def files(self, policy: str, keep: int | None, limits: Limits) -> None:
        """Checkpoints first: they are what cannot be had again."""
        self._bring_checkpoints(policy, keep)
        tell: Tell = self._done.problems.append
        output = OutputAtHome(self._disk, limits, tell, lambda path, count: self._count(path, count))
        for _ in range(_MOST_LOOKS):
            if not output.look(self._pull, final=True):
                break
        self._compare_output(output)
        self._done.output = output.files()

    def follow(self) -> None:
        """The logs, as far as they are now."""
        segments = Segments(self._disk, self._done.problems.append)
        following = Following(self._pull, segments)
        before = sum(segments.sizes().values())
        self._pull.sync(1)
        wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            while not following.step(wake):
                now = sum(segments.sizes().values())
                self._count("logs", max(0, now - before))
                before = now
        finally:
            os.close(wake)
        self._pull.enough()
        self._done.logs = segments.sizes()

    def compare(self) -> bool:
        """Compare every log with the host's and set aside what differs, to be brought again; whether there was any."""
        segments = Segments(self._disk, self._done.problems.append)
        differ = self._differing(segments.sizes())
        for path in differ:
            segments.set_aside(path)
        return bool(differ)

    def _compare_output(self, output: OutputAtHome) -> None:
        """What was here before, and what only grows, was checked by its size or its end alone."""
        differ = self._differing(output.unproved())
        for path in differ:
            output.forget(path)
        if differ:
            for _ in range(_MOST_LOOKS):
                if not output.look(self._pull, final=True):
                    break

    def _differing(self, sizes: dict[str, int]) -> list[str]:
        differ: list[str] = []
        for paths in in_frames(sorted(sizes)):
            theirs = self._pull.digests([(path, sizes[path]) for path in paths])
            for path, digest in zip(paths, theirs, strict=True):
                # None: it is not there any more, and what is here is all that is left of it.
                if digest is not None and digest != self._digest(path, sizes[path]):
                    differ.append(path)
        return differ

    def _digest(self, path: str, size: int) -> str:
        digest: hashlib._Hash = hashlib.sha256()
        with open(self._disk.inside.read(path), "rb") as file:
            while size and (data := file.read(min(_PIECE, size))):
                digest.update(data)
                size -= len(data)
        return digest.hexdigest()

    def _bring_checkpoints(self, policy: str, keep: int | None) -> None:
        def report(name: str, count: int, here: int, total: int) -> None:
            self._count(f"checkpoint {name}, {here * 100 // max(1, total)} %", count)

        at_home = AtHome(self._disk, report)
        host, tell = self._done.host, self._done.problems.append
        choosing = Choosing(host, self._pull, at_home, self._copies, home=policy, keep=keep, tell=tell, once=True)
        while (found := choosing.look(hurried=True)).name or found.turn is not Turn.OURS:
            if not found.name:  # another host is at it, and may yet fail
                self._disk.heed(_LOOK_AGAIN_S)
                continue
            try:
                if not at_home.bring(self._pull, found.name):
                    at_home.missed(found.name)
            except RefusedError as error:
                self._done.problems.append(f"checkpoint {found.name} is not whole: {error}")
            except NoRoomError as error:
                self._done.problems.append(f"no room at home: {error}")
                break
        self._done.checkpoints = sorted(at_home.names())

    def _count(self, what: str, count: int) -> None:
        self._done.bytes += count
        now = time.monotonic()
        if now - self._told_at >= _LEAST_PROGRESS_S:
            self._told_at = now
            self._progress(Progress(self._done.host, what, self._done.bytes))
